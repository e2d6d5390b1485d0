"""The estimator: Algorithms 1 and 2 of the paper, batched over sequences, without Lightning."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap._checks import (
    check_flag,
    check_function,
    check_range,
    check_settings,
    check_state_tensors,
)
from lightning_lyap._device import full_precision
from lightning_lyap.certificate.beside_the_run import checks_beside_the_run
from lightning_lyap.certificate.result import Certificate
from lightning_lyap.certificate.returned import Returned
from lightning_lyap.dynamics import Dynamics, LayerChoice, StateChoice, uncouple
from lightning_lyap.dynamics.base import DynamicalSystem
from lightning_lyap.dynamics.conversion import as_dynamics
from lightning_lyap.estimator.averaging import assemble
from lightning_lyap.estimator.batching import (
    Group,
    num_shares,
    on_one_thread,
    sequences_that_fit,
    split_evenly,
    split_into_groups,
)
from lightning_lyap.estimator.inputs import (
    Sequences,
    Warmup,
    check_basis,
    check_inputs,
    check_time_chunks,
    check_weights,
)
from lightning_lyap.estimator.remarks import overlap_remark, settling_remark, warn_user
from lightning_lyap.estimator.result import SpectrumEstimate
from lightning_lyap.estimator.schedule import Interval
from lightning_lyap.estimator.stopping import Progress, run_to_target
from lightning_lyap.estimator.time_parallel.trajectories import in_chunks
from lightning_lyap.estimator.trajectories import Start, Trajectories
from lightning_lyap.qr.orthonormalize import random_orthonormal_basis
from lightning_lyap.statistics.overlap import find_overlap


@torch.no_grad()
def lyapunov_spectrum(
    dynamics: nn.Module | Dynamics | Callable[..., Any],
    inputs: Tensor,
    *,
    initial_state: Any = None,
    initial_basis: Tensor | None = None,
    num_exponents: int | None = None,
    warmup_steps: Warmup = "auto",
    orthonormalize_every: Interval = 1,
    state: StateChoice = "full",
    layers: LayerChoice = "union",
    lengths: Tensor | list[int] | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    target_stderr: float | None = None,
    keep_log_stretches: bool = False,
    progress: Progress | None = None,
    time_chunks: int = 1,
    returned: Returned | None = None,
) -> SpectrumEstimate:
    r"""Estimate the Lyapunov spectrum of a driven recurrent network.

    Along each trajectory ``s_t = F(s_{t-1}, x_t)`` a basis of tangent vectors is carried by the
    Jacobian, ``Q <- J_t Q``, and orthonormalized every few steps, ``Q R = Q``. The exponents are
    ``lambda_i = (sum of log R_ii) / (number of steps)``, averaged over sequences and then sorted.
    Natural logarithms: nats per step. The stretches are added up in float64 whatever the type of
    the arithmetic. A last block shorter than the interval is orthonormalized and counted.

    The call draws nothing from global random generators, keeps no graph, changes no mode, and
    computes in full precision inside autocast and with TF32 allowed. Dropout is left out.
    Sequences that don't fit into the memory together are run in groups, one after the other; on the
    CPU shares of them run side by side on the threads that torch may use.

    Args:
        dynamics: `torch.nn.RNN`, `GRU` or `LSTM` (1 to L layers; the stack is one system), or a
            cell of these; a module of a type known by `register_recurrence`; a module or function
            ``step(x_t, state)`` that returns the new state or (output, new state), differentiated
            by `torch.func`; or an object with the `Dynamics` protocol.
        inputs: Driving sequences, ``[B, T, I]``: batch first always, whatever the module's own
            ``batch_first``. An autonomous system takes ``I = 0``.
        initial_state: What the torch module takes as its second argument, ``[L, B, H]`` or a pair
            of such; ``[B, N]`` or a tuple or dict of such for cells and step functions, which need
            it. Default: zeros (Section 4.1) for torch's, the registered one for others.
        initial_basis: Orthonormal tangent vectors to start from, ``[B, N, K]``: with
            ``final_basis`` and ``final_state`` of an earlier estimate the run goes on where that
            one ended.
            Default: the identity if K = N (Section 4.1), else K random orthonormal vectors, the
            same for every sequence (a part of the identity could miss the leading directions).
        num_exponents: K, the number of leading exponents. Default: all N.
        warmup_steps: Steps at the beginning that carry state and basis, with orthonormalization,
            but are not counted (Algorithm 2). Both need time to forget where they started, about
            one over the gaps between exponents. Default ``"auto"``: half of the steps (of the
            median sequence), 1000 at most; none with an ``initial_basis``, which goes on with an
            earlier run. 0 is Algorithm 1, whose intervals do not cover the limit; ``settled``
            tells which exponents need more.
        orthonormalize_every: Steps between factorizations, the paper's T_ON. Default 1
            (Algorithm 1). Large intervals lose the trailing exponents to rounding; see
            `SpectrumEstimate.resolved`. ``"auto"``: as many as keep the estimated rounding errors
            within 1e-3 (float32) or 1e-6 (float64) nats per step, but for the last sixteenth of a
            complete spectrum; what does not keep it is not resolved. See `AutoInterval`, also for
            where these estimates are too small.
        state: For LSTMs, ``"full"`` linearizes the map of (h, c), 2H exponents per layer;
            ``"hidden"`` is the paper's dh'/dh with c held fixed, H per layer (App. B.1). They
            differ a lot: with a forget bias of 3, -0.05 against -3.9.
        layers: ``"union"`` takes each layer of torch's stacks with a basis of its own: the union of
            the layers' spectra, and each exponent tells its layer. Other dynamics are one layer.
            ``"joint"`` takes a stack as one system, with its block lower-triangular tangent map
            (App. B): the same in the limit of long sequences, but L^2 times the work of
            factorizations, and where the layers' order of growth turns its directions are lost in
            rounding noise, and not resolved. Over a finite sequence the two differ where exponents
            of different layers lie closer than about 1/T: the joint basis has not told them apart
            yet, so it gives values in between. The sums of all N agree at any length.
        lengths: Length of each sequence, ``[B]``, for padded inputs; padding is never read.
            Default: T for all.
        dtype: ``torch.float32`` or ``torch.float64``. Default: the dynamics' own, float32 for
            half-precision modules.
        seed: Of the private generator that draws the random basis.
        target_stderr: Standard error to reach, nats per step. The sequences are then run in groups
            of 16, 16, 32, 64 and so on until the standard errors of all resolved exponents are no
            larger; the first group also stops short of the end once they are, after 256 counted
            steps at the earliest. Log-stretches kept are those between the block ends that all
            groups have in common. ``target_reached`` of the estimate says whether they are, or the
            sequences were exhausted. Where 16 sequences don't fit into the memory the groups are
            smaller. Default: all sequences are run.
        keep_log_stretches: Whether to keep them, ``[M, B, K]``, for convergence curves.
        progress: Called with (steps done, steps in all) after every step. With chunks of time the
            number of rounds is not known: counted steps done are then an estimate.
        time_chunks: Into how many chunks of time to cut the counted steps, to be carried side by
            side like sequences. It pays where a step costs overhead and not arithmetic: few
            exponents, small networks, long sequences, few of them. The result is that of the plain
            run, far within the tolerances of ``"auto"`` or, where they are larger, within
            ``rounding_errors``: chunks are run again until each starts from the basis that the one
            before it ends with, to an angle of 1e-4 (float32) or 1e-7 (float64), or less if chunks
            are short. Where three rounds are not enough the rest is
            run in order; at worst this costs a plain run, three times its arithmetic, and the pass
            of the states. Never more chunks than blocks, or than fit into the memory;
            ``chunks`` of the estimate says how it went. Not with ``target_stderr`` or automatic
            intervals. Default 1: none.
        returned: What the module returned in a forward pass on these sequences, as
            `InputRecorder` records it for `spectra_of` and the callback: the certificate compares
            it with the states at all steps. Default: nothing is known.

    Returns:
        The estimate; see `SpectrumEstimate`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a shape or a range is wrong, no sequence is left, or the module is
            bidirectional.
        RuntimeError: If a step function fails on such inputs, or can't be differentiated.

    Warns:
        RuntimeWarning: If the states or stretches of a sequence did not stay finite, its inputs are
            not finite, or it is no longer than the warm-up; such sequences are left out of the
            means. If sequences repeat each other or overlap, see `find_overlap`: repetitions are
            left out of the means, the errors of what overlaps are wider. If exponents have not
            settled. If the estimate fails its certificate.

    Example:
        >>> rnn = nn.RNN(1, 2, nonlinearity="relu", bias=False)
        >>> _ = nn.init.ones_(rnn.weight_ih_l0), rnn.weight_hh_l0.data.copy_(
        ...     torch.diag(torch.tensor([0.5, 0.25]))
        ... )
        >>> lyapunov_spectrum(rnn, torch.rand(3, 20, 1)).exponents
        tensor([-0.6931, -1.3863], dtype=torch.float64)

    Reference:
        Vogt, Puelma Touzel, Shlizerman, Lajoie, On Lyapunov Exponents for RNNs: Algorithms 1
        and 2. Benettin et al. (1980), Meccanica 15, 9-20.
    """
    dynamics = getattr(dynamics, "_orig_mod", dynamics)  # of torch.compile
    num_exponents, warmup_steps, orthonormalize_every, seed = check_settings(
        num_exponents, warmup_steps, orthonormalize_every, seed
    )
    if target_stderr is not None:
        target_stderr = check_range("target_stderr", target_stderr, 0.0, open_low=True)
    time_chunks = check_time_chunks(time_chunks, target_stderr, orthonormalize_every)
    check_flag("keep_log_stretches", keep_log_stretches)
    check_function("progress", progress)
    check_weights(dynamics)
    check_state_tensors(initial_state)
    system = uncouple(as_dynamics(dynamics, initial_state, state, dtype), layers)
    if warmup_steps == "auto" and initial_basis is not None:
        warmup_steps = 0
    usable = check_inputs(system, dynamics, inputs, lengths, warmup_steps, dtype)
    warmup_steps = usable.warmup_steps
    with full_precision(system.device.type):
        batch_size = inputs.shape[0]
        first_state = system.initial_state(initial_state, batch_size)
        basis = _starting_basis(system, batch_size, num_exponents, initial_basis, seed)
        inputs, first_state, basis = usable.prepared(inputs, first_state, basis)
        drive = system.drive(inputs.detach().to(system.device))
        start = Start(drive, first_state, basis, usable.ends)
        settings = (warmup_steps, orthonormalize_every, keep_log_stretches)
        new_trajectories: Callable[..., Trajectories] = Trajectories
        most_at_once = sequences_that_fit(system, basis.shape[2])
        if time_chunks > 1:
            chosen = warmup_steps, orthonormalize_every, time_chunks
            most_at_once, new_trajectories = in_chunks(system, start, *chosen)
        overlap = find_overlap(inputs, first_state, usable.ends, warmup_steps)
        groups = []
        for rows in split_into_groups(batch_size, target_stderr, most_at_once):
            shares = split_evenly(rows, num_shares(system, basis[rows]))
            trajectories = [new_trajectories(system, start.of(rows), *settings) for rows in shares]
            for part, own in zip(trajectories, shares, strict=True):
                part.overlap = overlap.of(own)
            groups.append(Group(trajectories))
        done, reached = run_to_target(groups, target_stderr, progress)

        with on_one_thread(system):
            for group in done:
                group.check_deferred()
            run = dynamics, system, inputs, start, system.export_state(first_state), returned
            checks = checks_beside_the_run(*run)
            estimate = _without(usable, assemble(done, num_exponents, checks, reached))
    _warn_if_invalid(estimate.valid, usable)
    for remark in (overlap_remark(estimate), settling_remark(estimate)):
        if remark is not None:
            warn_user(remark)
    _warn_if_faulty(estimate.certificate)
    return estimate


def _starting_basis(
    system: DynamicalSystem,
    batch_size: int,
    num_exponents: int | None,
    given: Tensor | None,
    seed: int,
) -> Tensor:
    """Return the given basis, the identity, or a random one, for each block of the tangent space.

    ``[B, N, k]``; k is K or the size of a block, if that is smaller.
    """
    blocks, dtype, device = system.num_blocks, system.dtype, system.device
    size = system.tangent_size // blocks
    if num_exponents is not None and num_exponents > system.tangent_size:
        raise ValueError(
            f"Expected `num_exponents` of at most {system.tangent_size}, the size of the tangent "
            f"space, but got {num_exponents}."
        )
    count = None if num_exponents is None else min(num_exponents, size)
    if given is not None:
        return check_basis(given, batch_size, size, count, blocks).to(device, dtype)
    if count is None or count == size:
        basis = torch.eye(size, dtype=dtype, device=device)
    else:
        basis = random_orthonormal_basis(size, count, seed, dtype, device)
    return basis.repeat(blocks, 1).expand(batch_size, -1, -1)


def _warn_if_faulty(certificate: Certificate) -> None:
    """Warn once if the estimate fails a check; that nothing stayed finite is said elsewhere."""
    if not certificate.passed and certificate.num_sequences != 0:
        warnings.warn(
            f"The Lyapunov spectrum fails its certificate: {'; '.join(certificate.failures)}. "
            "Don't trust it. A step must depend on x_t and its own sequence's state alone, and let "
            "torch.func see all of its derivative (no `.item()`, no `detach`); a "
            "subclass of torch's modules with another forward pass must be measured by a step "
            "function; anything else is an error of this package: please report it.",
            RuntimeWarning,
            stacklevel=4,
        )


def _without(usable: Sequences, estimate: SpectrumEstimate) -> SpectrumEstimate:
    """Take what says nothing off an estimate: NaN exponents and no steps of those left out."""
    if not bool(usable.left_out.any()):
        return estimate
    rows = usable.left_out.to(estimate.steps.device)
    return replace(
        estimate,
        steps=estimate.steps.masked_fill(usable.too_short.to(rows.device), 0),
        per_sequence=estimate.per_sequence.masked_fill(rows.unsqueeze(-1), math.nan),
    )


def _warn_if_invalid(valid: Tensor, usable: Sequences) -> None:
    """Warn once about sequences, ``[B]``, that are left out or did not stay finite."""
    overflown, count = int((~valid).sum()) - int(usable.left_out.sum()), valid.numel()
    said = []
    if overflown:
        said.append(
            f"{overflown} of {count} sequences did not stay finite and are left out of the "
            "spectrum: the state or the tangent vectors overflowed. Look at the weights and "
            "inputs, lower `orthonormalize_every`, or use dtype=torch.float64."
        )
    if usable.reasons:
        said.append(
            f"{int(usable.left_out.sum())} of {count} sequences are left out of the spectrum: "
            f"{usable.reasons}."
        )
    if said:
        warnings.warn(" ".join(said), RuntimeWarning, stacklevel=4)
