"""The figures and tables of Vogt et al., On Lyapunov Exponents for RNNs, one command each.

``python -m paper.fig1``, ``fig2`` to ``fig7``, ``table1``, ``readout``, ``hidden_full``: each
trains the networks it needs (or finds them trained), measures them where it needs more than the
spectra of training, and writes one PNG, one table, its settings and its claims. ``fig1`` trains
nothing, and ``table1`` times some steps of training.
``python -m paper.compute figures=[fig3,fig4]`` trains for several, ``python -m paper.collect``
packs the numbers of all trained networks into one small file that figures can be drawn from
elsewhere (``results=FILE``), ``python -m paper.report`` writes docs/REPRODUCTION.md.
"""
