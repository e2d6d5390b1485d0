"""The estimator: Algorithms 1 and 2 of the paper, batched over sequences, without Lightning."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap.checks import check_basis, check_inputs, check_settings
from lightning_lyap.dynamics import Dynamics, StateChoice, as_dynamics
from lightning_lyap.dynamics.base import State
from lightning_lyap.estimate import SpectrumEstimate, SpectrumSums
from lightning_lyap.orthonormal import orthonormalize, random_orthonormal_basis

Progress = Callable[[int, int], None]


@torch.no_grad()
def lyapunov_spectrum(
    dynamics: nn.Module | Dynamics | Callable[..., Any],
    inputs: Tensor,
    *,
    initial_state: Any = None,
    initial_basis: Tensor | None = None,
    num_exponents: int | None = None,
    warmup_steps: int = 0,
    orthonormalize_every: int = 1,
    state: StateChoice = "full",
    lengths: Tensor | list[int] | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    keep_log_stretches: bool = False,
    progress: Progress | None = None,
) -> SpectrumEstimate:
    r"""Estimate the Lyapunov spectrum of a driven recurrent network.

    Along each trajectory ``s_t = F(s_{t-1}, x_t)`` a basis of tangent vectors is carried by the
    Jacobian, ``Q <- J_t Q``, and orthonormalized every few steps, ``Q R = Q``. The exponents are
    ``lambda_i = (sum of log R_ii) / (number of steps)``, averaged over sequences and then sorted.
    Natural logarithms: nats per step. The stretches are added up in float64 whatever the type of
    the arithmetic. A last block shorter than the interval is orthonormalized and counted.

    The call draws nothing from global random generators, keeps no graph, changes no mode, and
    computes in full precision inside autocast and with TF32 allowed. Dropout is left out.

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
            but are not counted (Algorithm 2). Default 0 (Algorithm 1).
        orthonormalize_every: Steps between factorizations, the paper's T_ON. Default 1
            (Algorithm 1). Large intervals lose the trailing exponents to rounding; see
            `SpectrumEstimate.resolved`.
        state: For LSTMs, ``"full"`` linearizes the map of (h, c), 2H exponents per layer;
            ``"hidden"`` is the paper's dh'/dh with c held fixed, H per layer (App. B.1). They
            differ a lot: with a forget bias of 3, -0.05 against -3.9.
        lengths: Length of each sequence, ``[B]``, for padded inputs; padding is never read.
            Default: T for all.
        dtype: ``torch.float32`` or ``torch.float64``. Default: the dynamics' own, float32 for
            half-precision modules.
        seed: Of the private generator that draws the random basis.
        keep_log_stretches: Whether to keep them, ``[M, B, K]``, for convergence curves.
        progress: Called with (steps done, steps in all) after every step.

    Returns:
        The estimate; see `SpectrumEstimate`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a shape or a range is wrong, or the module is bidirectional.

    Warns:
        RuntimeWarning: If the states or stretches of a sequence did not stay finite; such sequences
            are left out of the means.

    Example:
        >>> rnn = nn.RNN(1, 2, nonlinearity="relu", bias=False)
        >>> _ = nn.init.ones_(rnn.weight_ih_l0), rnn.weight_hh_l0.data.copy_(
        ...     torch.diag(torch.tensor([0.5, 0.25]))
        ... )
        >>> lyapunov_spectrum(rnn, torch.ones(3, 20, 1)).exponents
        tensor([-0.6931, -1.3863], dtype=torch.float64)

    Reference:
        Vogt, Puelma Touzel, Shlizerman, Lajoie, On Lyapunov Exponents for RNNs: Algorithms 1
        and 2. Benettin et al. (1980), Meccanica 15, 9-20.
    """
    check_settings(num_exponents, warmup_steps, orthonormalize_every, seed)
    system = as_dynamics(dynamics, initial_state, state, dtype)
    ends = check_inputs(system, dynamics, inputs, lengths, warmup_steps, dtype)
    with _full_precision(system.device.type):
        current = system.initial_state(initial_state, inputs.shape[0])
        basis = _starting_basis(system, inputs.shape[0], num_exponents, initial_basis, seed)
        run = _Run(system, current, basis, ends, warmup_steps, keep_log_stretches)
        run.go(system.drive(inputs.detach().to(system.device)), orthonormalize_every, progress)
    return run.estimate()


class _Run:
    """Trajectories, their bases and the stretches measured so far.

    Args:
        system: The dynamics.
        state: Tensors ``[B, ...]``.
        basis: ``[B, N, K]``.
        ends: Length of each sequence, ``[B]``, on the CPU.
        warmup_steps: Steps that are not counted.
        keep: Whether to keep the log-stretches of every block.
    """

    def __init__(
        self,
        system: Dynamics,
        state: State,
        basis: Tensor,
        ends: Tensor,
        warmup_steps: int,
        keep: bool,
    ) -> None:
        self._system = system
        self._state = state
        self._basis = basis
        self._ends = ends
        self._warmup_steps = warmup_steps
        self._keep = keep
        shape = (basis.shape[0], basis.shape[2])
        self._sums = torch.zeros(shape, dtype=torch.float64, device=basis.device)
        self._resolved = torch.ones(shape, dtype=torch.bool, device=basis.device)
        self._stretches: list[Tensor] = []
        self._block_ends: list[int] = []

    def go(self, drive: Tensor, every: int, progress: Progress | None) -> None:
        """Run over all steps.

        Args:
            drive: ``[T, B, ...]``.
            every: Steps between factorizations.
            progress: Called after every step.
        """
        total = int(self._ends.max())
        block_start = 0
        for t in range(total):
            self._advance(drive[t], self._running(t))
            done = t + 1
            phase = done if done <= self._warmup_steps else done - self._warmup_steps
            if phase % every == 0 or done in (self._warmup_steps, total):
                self._close_block(self._running(block_start), done)
                block_start = done
            if progress is not None:
                progress(done, total)

    def _running(self, t: int) -> Tensor | None:
        """Return the indices of the sequences that have a step t, ``[b]``; None means all."""
        running = self._ends > t
        return None if running.all() else running.nonzero()[:, 0].to(self._basis.device)

    def _advance(self, drive: Tensor, running: Tensor | None) -> None:
        """Advance the running sequences by one step.

        Args:
            drive: ``[B, ...]``.
            running: Indices of the running sequences, or None for all.
        """
        if running is None:
            self._state, tangent = self._system.step(drive, self._state)
            self._basis = tangent(self._basis)
            return
        part = tuple(tensor[running] for tensor in self._state)
        part, tangent = self._system.step(drive[running], part)
        moved = tangent(self._basis[running])
        self._state = tuple(
            whole.index_copy(0, running, new) for whole, new in zip(self._state, part, strict=True)
        )
        self._basis = self._basis.index_copy(0, running, moved)

    def _close_block(self, moved: Tensor | None, done: int) -> None:
        """Orthonormalize the bases that moved in this block and count their stretches.

        Args:
            moved: Indices of the sequences that moved, or None for all.
            done: Steps done, warm-up included.
        """
        q, log_stretch, resolved = orthonormalize(
            self._basis if moved is None else self._basis[moved]
        )
        self._basis = q if moved is None else self._basis.index_copy(0, moved, q)
        if done <= self._warmup_steps:
            return
        if moved is not None:
            log_stretch = torch.zeros_like(self._sums).index_copy(0, moved, log_stretch)
            resolved = torch.ones_like(self._resolved).index_copy(0, moved, resolved)
        self._sums += log_stretch
        self._resolved &= resolved
        self._block_ends.append(done - self._warmup_steps)
        if self._keep:
            self._stretches.append(log_stretch)

    def estimate(self) -> SpectrumEstimate:
        """Take the means over sequences and sort them, once."""
        steps = (self._ends - self._warmup_steps).to(self._sums.device)
        per_sequence = self._sums / steps.unsqueeze(-1)
        valid = ~(per_sequence.isnan() | per_sequence.isposinf()).any(-1)
        for tensor in self._state:
            valid &= tensor.isfinite().flatten(1).all(-1)
        _warn_if_invalid(valid)
        counted = per_sequence[valid]
        sums = SpectrumSums(
            total=counted.sum(0),
            squares=counted.square().sum(0),
            unresolved=(~self._resolved[valid]).sum(0),
            count=counted.shape[0],
        )
        spectrum, order = sums.sorted_mean(self._system.tangent_size)
        return SpectrumEstimate(
            **vars(spectrum),
            per_sequence=per_sequence[:, order],
            valid=valid,
            steps=steps,
            order=order,
            final_state=self._system.export_state(self._state),
            final_basis=self._basis,
            block_ends=torch.tensor(self._block_ends, device=self._sums.device),
            log_stretches=torch.stack(self._stretches)[..., order] if self._keep else None,
        )


def _starting_basis(
    system: Dynamics, batch_size: int, num_exponents: int | None, given: Tensor | None, seed: int
) -> Tensor:
    """Take the given basis, the identity, or a random one.

    Args:
        system: The dynamics.
        batch_size: B.
        num_exponents: K or None.
        given: ``[B, N, K]`` or None.
        seed: Of the random basis.

    Returns:
        ``[B, N, K]``.

    Raises:
        ValueError: If K exceeds N or the given basis has the wrong shape.
    """
    size, dtype, device = system.tangent_size, system.dtype, system.device
    if given is not None:
        return check_basis(given, batch_size, size, num_exponents).to(device, dtype)
    count = size if num_exponents is None else num_exponents
    if count > size:
        raise ValueError(
            f"Expected `num_exponents` of at most {size}, the size of the tangent space, "
            f"but got {count}."
        )
    if count == size:
        basis = torch.eye(size, dtype=dtype, device=device)
    else:
        basis = random_orthonormal_basis(size, count, seed, dtype, device)
    return basis.expand(batch_size, -1, -1)


def _warn_if_invalid(valid: Tensor) -> None:
    """Warn once about sequences that did not stay finite.

    Args:
        valid: ``[B]``, bool.
    """
    lost = int((~valid).sum())
    if lost:
        warnings.warn(
            f"{lost} of {valid.numel()} sequences did not stay finite and are left out of the "
            "spectrum: the state or the tangent vectors overflowed. Look at the weights and "
            "inputs, lower `orthonormalize_every`, or use dtype=torch.float64.",
            RuntimeWarning,
            stacklevel=5,
        )


@contextmanager
def _full_precision(device_type: str) -> Iterator[None]:
    """Switch off autocast and reduced-precision products, and restore both.

    Args:
        device_type: Type of the device that computes.

    Yields:
        None.
    """
    with torch.autocast(device_type, enabled=False):
        backends: list[Any] = [
            torch.backends.cuda.matmul,
            getattr(torch.backends.mkldnn, "matmul", None),
        ]
        if not all(hasattr(backend, "fp32_precision") for backend in backends):
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(before)
            return
        inherited = getattr(torch.backends, "fp32_precision", None)
        settings = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            # "none" lets a backend go on following the setting for all of them.
            for backend, setting in zip(backends, settings, strict=True):
                backend.fp32_precision = "none" if setting == inherited else setting
