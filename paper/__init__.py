"""The figures and tables of Vogt et al., On Lyapunov Exponents for RNNs, one command each.

``python -m paper.fig3``, ``fig4``, ``fig7``, ``readout``, ``hidden_full``: each trains the networks
it needs (or finds them trained), and writes one PNG, one table, its settings and its claims.
``table1`` does the same but for training: it times some steps.
``python -m paper.compute figures=[fig3,fig4]`` trains for several, ``python -m paper.collect``
packs the numbers of all trained networks into one small file that figures can be drawn from
elsewhere (``results=FILE``), ``python -m paper.report`` writes docs/REPRODUCTION.md.
"""
