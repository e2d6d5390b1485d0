"""Every precision of the Trainer on a CPU: spectra in single or double precision, always finite."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_lyap import lyapunov_spectrum
from tests.modes.runs import NUM_SEQUENCES, NUM_STEPS, held_out, quick
from tests.modes.test_sacred import Descent
from tests.networks import fit

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
WEIGHTS: dict[Any, torch.dtype] = {
    "32-true": torch.float32,
    "64-true": torch.float64,
    "bf16-mixed": torch.float32,
    "16-mixed": torch.float32,
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
}


class Typed(Descent):
    """Notes in which precision the recurrence gets its inputs in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()
        self.rnn.register_forward_pre_hook(lambda _, args: self.seen.add(args[0].dtype))


@pytest.mark.filterwarnings("ignore:You passed `Trainer")
@pytest.mark.parametrize("precision", WEIGHTS)
def test_half_precision_is_measured_in_single_and_double_in_double(
    precision: Any, tmp_path: Path
) -> None:
    callback, double = quick(), quick(dtype="float64", name="double")
    fitted, model = fit(tmp_path, callback, double, network=Typed, precision=precision)
    rnn: Any = model.rnn
    dtype = WEIGHTS[precision]
    assert rnn.weight_hh_l0.dtype == dtype
    # What the weights are, in the precision of the spectrum, on inputs as the network saw them.
    (inputs,) = model.seen  # type: ignore[misc]
    seen, own = held_out().to(inputs), torch.promote_types(dtype, torch.float32)
    for ours, chosen in ((callback, own), (double, torch.float64)):
        copied = nn.GRU(3, 6, batch_first=True).to(chosen)
        copied.load_state_dict(rnn.state_dict())
        expected = lyapunov_spectrum(copied, seen.to(chosen))
        spectrum = ours.histories["rnn"].spectra[-1]
        assert torch.equal(spectrum.exponents, expected.exponents)
        assert spectrum.exponents.isfinite().all()
        assert spectrum.num_sequences == NUM_SEQUENCES
        assert bool(fitted.callback_metrics[f"{ours.name}/certified"])
    assert held_out().shape[1] == NUM_STEPS
