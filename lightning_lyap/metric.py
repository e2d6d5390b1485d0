"""The spectrum as a torchmetrics Metric: sums and counts, so merging is exact."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_lyap.dynamics import Dynamics, LayerChoice, StateChoice, uncouple
from lightning_lyap.dynamics.conversion import as_dynamics
from lightning_lyap.estimator.inputs import Warmup
from lightning_lyap.estimator.remarks import SETTLING
from lightning_lyap.estimator.result import (
    NUMBERS,
    VECTORS,
    LayeredSpectrum,
    SpectrumEstimate,
    SpectrumSums,
)
from lightning_lyap.estimator.schedule import Interval
from lightning_lyap.estimator.settings import MeasurementSettings
from lightning_lyap.estimator.spectrum import lyapunov_spectrum
from lightning_lyap.plotting import plot_spectrum
from lightning_lyap.statistics.batch_means import (
    NUM_GROUPS,
    NUM_PARTS,
    NUM_SCALES,
    join_samples,
)

DRAWN = ("exponents", "std", "resolved", "settled", "margins")


class LyapunovSpectrum(Metric):
    """Lyapunov spectrum averaged over all sequences seen, on all processes.

    Keeps the sums of `SpectrumSums` over sequences, in float64: exponents, and contrasts over time.
    Two metrics merged, or synchronized between processes, equal one that saw all the sequences; but
    for ``orthonormalize_every="auto"``, which chooses the intervals, and which exponents keep the
    tolerance, for each batch: then they agree within it, and an exponent is unresolved if the
    rounding errors of one batch, averaged over its sequences, exceed it.

    Args:
        num_exponents: K. Default: all N of the dynamics first seen. Where a process may see no
            sequence give it, or call `expect`, so that all processes agree on the shape.
        warmup_steps: See `lyapunov_spectrum`.
        orthonormalize_every: See `lyapunov_spectrum`.
        state: See `lyapunov_spectrum`.
        layers: See `lyapunov_spectrum`. With ``"union"`` a process that may see no sequence needs
            `expect`: K does not tell how many exponents of each layer are summed.
        dtype: See `lyapunov_spectrum`.
        kwargs: Of `torchmetrics.Metric`.

    Raises:
        TypeError: If a number is no int.
        ValueError: If a setting is out of range or no such word.

    Example:
        >>> rnn = nn.RNN(1, 2, nonlinearity="relu", bias=False)
        >>> _ = nn.init.ones_(rnn.weight_ih_l0), rnn.weight_hh_l0.data.copy_(
        ...     torch.diag(torch.tensor([0.5, 0.25]))
        ... )
        >>> metric = LyapunovSpectrum()
        >>> metric.update(rnn, torch.rand(3, 20, 1))
        >>> metric.update(rnn, torch.rand(5, 20, 1))
        >>> metric.compute()["exponents"], metric.mean_spectrum().num_sequences
        (tensor([-0.6931, -1.3863], dtype=torch.float64), 8)
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    squares: Tensor
    cross: Tensor
    weights: Tensor
    terms: Tensor
    rounding: Tensor
    unresolved: Tensor
    drift: Tensor
    drift_weight: Tensor
    samples: Tensor
    overlap: Tensor
    steps: Tensor
    uncertified: Tensor
    tangent_size: Tensor
    block_columns: Tensor

    def __init__(
        self,
        num_exponents: int | None = MeasurementSettings.num_exponents,
        *,
        warmup_steps: Warmup = MeasurementSettings.warmup_steps,
        orthonormalize_every: Interval = MeasurementSettings.orthonormalize_every,
        state: StateChoice = MeasurementSettings.state,
        layers: LayerChoice = MeasurementSettings.layers,
        dtype: str | torch.dtype | None = MeasurementSettings.dtype,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = MeasurementSettings(
            warmup_steps=warmup_steps,
            orthonormalize_every=orthonormalize_every,
            num_exponents=num_exponents,
            state=state,
            layers=layers,
            dtype=dtype,
        )
        # A scalar zero adds to a sum of any size, whatever that turns out to be.
        known = self.settings.num_exponents if layers == "joint" else None
        shape = () if known is None else (known,)
        scales = (NUM_SCALES, *shape) if shape else ()
        self.add_state("squares", torch.zeros(scales, dtype=torch.float64), "sum")
        self.add_state("cross", torch.zeros(scales, dtype=torch.float64), "sum")
        self.add_state("weights", torch.zeros(NUM_SCALES, dtype=torch.float64), "sum")
        self.add_state("terms", torch.zeros(NUM_SCALES, dtype=torch.int64), "sum")
        self.add_state("rounding", torch.zeros(shape, dtype=torch.float64), "sum")
        self.add_state("unresolved", torch.zeros(shape, dtype=torch.int64), "sum")
        self.add_state("drift", torch.zeros(shape, dtype=torch.float64), "sum")
        self.add_state("drift_weight", torch.tensor(0.0, dtype=torch.float64), "sum")
        columns = 0 if known is None else known
        samples = torch.zeros(NUM_GROUPS, NUM_PARTS, columns + 1, dtype=torch.float64)
        self.add_state("samples", samples, join_samples)
        self.add_state("overlap", torch.tensor(0.0, dtype=torch.float64), "sum")
        self.add_state("steps", torch.zeros(2, dtype=torch.int64), "sum")
        self.add_state("uncertified", torch.tensor(0), "sum")
        self.add_state("tangent_size", torch.tensor(0), "max")
        self.add_state("block_columns", torch.tensor(0), "max")

    def expect(self, dynamics: nn.Module | Dynamics, initial_state: Any = None) -> None:
        """Take the size of the spectrum from the dynamics, where there may be no sequence.

        After a `reset` it must be called again.

        Args:
            dynamics: See `lyapunov_spectrum`.
            initial_state: See `lyapunov_spectrum`.

        Raises:
            ValueError: If the spectrum has another size than those seen before.
        """
        chosen = self.settings.estimator_settings()
        system = as_dynamics(dynamics, initial_state, chosen["state"], chosen["dtype"])
        system = uncouple(system, chosen["layers"])
        blocks, size = system.num_blocks, system.tangent_size
        columns = min(self.settings.num_exponents or size, size // blocks)
        self._take_size(torch.Size([blocks * columns]), size, columns)
        self.rounding = self.rounding + self.rounding.new_zeros(blocks * columns)
        self.unresolved = self.unresolved + self.unresolved.new_zeros(blocks * columns)
        self.drift = self.drift + self.drift.new_zeros(blocks * columns)
        scales = self.squares.new_zeros(NUM_SCALES, blocks * columns)
        self.squares, self.cross = self.squares + scales, self.cross + scales
        self.samples = _of_size(self.samples, blocks * columns)

    def update(
        self,
        dynamics: nn.Module | Dynamics | SpectrumEstimate,
        inputs: Tensor | None = None,
        initial_state: Any = None,
        lengths: Tensor | list[int] | None = None,
    ) -> None:
        """Measure a batch of sequences, or take in one that was measured with the same settings.

        Args:
            dynamics: See `lyapunov_spectrum`; or its result, which needs no other argument.
            inputs: ``[B, T, I]``.
            initial_state: See `lyapunov_spectrum`.
            lengths: ``[B]`` or None.

        Raises:
            TypeError: If the inputs are missing, or given beside an estimate.
            ValueError: If the spectrum has another size than those seen before.
        """
        if isinstance(dynamics, SpectrumEstimate):
            if not (inputs is None and initial_state is None and lengths is None):
                raise TypeError(
                    "Expected no `inputs`, `initial_state` or `lengths` beside an estimate, but "
                    "got some. Pass the dynamics in place of the estimate to measure on them."
                )
            estimate = dynamics
        elif inputs is None:
            raise TypeError("Expected `inputs` [B, T, I] beside the dynamics, but got None.")
        else:
            with warnings.catch_warnings():
                # What has settled is known when all batches are: `compute` tells it.
                warnings.filterwarnings("ignore", SETTLING)
                estimate = lyapunov_spectrum(
                    dynamics,
                    inputs,
                    initial_state=initial_state,
                    lengths=lengths,
                    num_exponents=self.settings.num_exponents,
                    **self.settings.estimator_settings(),
                )
        # In the order of the basis vectors: each batch sorts its exponents in its own way.
        shape, columns = estimate.sums.unresolved.shape, estimate.final_basis.shape[2]
        self._take_size(shape, estimate.tangent_size, columns)
        for name, value in vars(estimate.sums).items():
            added = value.to(self.device)
            if name == "samples":
                added = join_samples([_of_size(self.samples, shape.numel()), added])
            else:
                added = getattr(self, name) + added
            setattr(self, name, added)
        # A batch that is lost adds nothing to the means, and makes them no less certain.
        lost = estimate.num_sequences == 0
        self.uncertified = self.uncertified + int(not (lost or estimate.certificate.passed))

    def _take_size(self, shape: torch.Size, tangent_size: int, columns: int) -> None:
        """Take over the size of a spectrum, if it agrees with those before; see `_check_size`."""
        self._check_size(shape, tangent_size, columns)
        self.tangent_size = self.tangent_size.clamp(min=tangent_size)
        self.block_columns = self.block_columns.clamp(min=columns)

    def _check_size(self, shape: torch.Size, tangent_size: int, columns: int) -> None:
        """Refuse another shape ``[columns of all blocks]``, N, or number of columns of a block."""
        # Sums that are empty yet have the shape [] and sizes 0, and agree with any.
        before, size, own = self.unresolved.shape, int(self.tangent_size), int(self.block_columns)
        other_shape = before and shape and before != shape
        if other_shape or (size and tangent_size not in (0, size)):
            raise ValueError(
                f"Expected spectra of {before.numel()} exponents, N = {size or 'any'}, as before, "
                f"but got {shape.numel()}, N = {tangent_size}. Use one metric for each recurrent "
                "module."
            )
        if own and columns not in (0, own):
            raise ValueError(
                f"Expected spectra with {own} exponents of each layer summed, as before, but got "
                f"{columns}. Use one metric for layers='joint' and another for 'union'."
            )

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        """Add other sums to those here, for `forward` and `merge_state` of torchmetrics."""
        sizes = (int(incoming_state[name]) for name in ("tangent_size", "block_columns"))
        self._check_size(incoming_state["unresolved"].shape, *sizes)
        both = (self.samples, incoming_state["samples"])
        columns = max(samples.shape[-1] for samples in both) - 1
        self.samples, incoming_state["samples"] = (_of_size(each, columns) for each in both)
        super()._reduce_states(incoming_state)
        self._computed = None  # merge_state keeps what was computed before it

    def compute(self) -> dict[str, Tensor]:
        """Take the means over all sequences and sort them, once.

        Returns:
            The fields of `LayeredSpectrum` by name, ``layer`` only where there are several, and
            ``certified``, whether every batch passed its `Certificate`, and some sequence stayed
            finite. torchmetrics leaves out the dimension of ``[K]`` when K = 1.
        """
        scales = self.weights.new_zeros(NUM_SCALES, 1)
        sums = SpectrumSums(
            squares=self.squares + scales,
            cross=self.cross + scales,
            weights=self.weights,
            terms=self.terms,
            rounding=self.rounding.reshape(-1),
            unresolved=self.unresolved.reshape(-1),
            drift=self.drift.reshape(-1),
            drift_weight=self.drift_weight,
            samples=_of_size(self.samples, self.unresolved.numel()),
            overlap=self.overlap,
            steps=self.steps,
        )
        chosen = self.settings.num_exponents, int(self.block_columns) or None
        spectrum, order = sums.sorted_mean(int(self.tangent_size), *chosen)
        values = {name: torch.as_tensor(value) for name, value in vars(spectrum).items()}
        if 0 < self.block_columns < self.unresolved.numel():
            values["layer"] = order // self.block_columns
        return values | {"certified": (self.uncertified == 0) & (values["num_sequences"] > 0)}

    def mean_spectrum(self) -> LayeredSpectrum:
        """Return what `compute` returns as a spectrum with its statistics."""
        values = self.compute()
        numbers: dict[str, Any] = {name: float(values[name]) for name in NUMBERS}
        return LayeredSpectrum(
            **_rows(values, VECTORS),
            num_sequences=int(values["num_sequences"]),
            **numbers,
            tangent_size=int(values["tangent_size"]),
            statistic_errors=values["statistic_errors"],
        )

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the spectrum with its band over sequences and its 95 % intervals.

        Args:
            val: What `compute` returned; None computes it.
            ax: Axes to draw into, or None for a figure of its own.

        Returns:
            Figure and axes.

        Raises:
            TypeError: If ``val`` is something else.
        """
        values = self.compute() if val is None else val
        if not isinstance(values, Mapping) or not set(DRAWN) <= set(values):
            raise TypeError(
                f"Expected `val` to be what `compute` returned, with {', '.join(DRAWN)}, but got "
                f"a {type(values).__name__}. Leave it out to draw what was measured."
            )
        return plot_spectrum(**_rows(values, DRAWN), ax=ax)


def _rows(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return some values ``[K]``, of which torchmetrics takes the dimension where K is 1."""
    return {name: values[name].reshape(-1) for name in (*names, "layer") if name in values}


def _of_size(samples: Tensor, columns: int) -> Tensor:
    """Return samples, ``[..., K + 1]``, with some K; empty ones may have none yet."""
    missing = columns + 1 - samples.shape[-1]
    return nn.functional.pad(samples, (missing, 0)) if missing else samples
