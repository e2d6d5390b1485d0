"""The spectra of a network on a batch are those of its modules on what they receive."""

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum, spectra_of
from tests.networks import FEATURES, EncoderDecoder, Predictor

BATCH = torch.randn(5, 12, FEATURES, generator=torch.Generator().manual_seed(0))


def test_a_module_is_measured_on_what_it_receives() -> None:
    network = EncoderDecoder()
    found = spectra_of(network, BATCH, warmup_steps=2)
    assert list(found) == ["encoder", "decoder"]
    hidden = network.encoder(BATCH)[0].detach()
    expected = {"encoder": BATCH, "decoder": hidden}
    for name, inputs in expected.items():
        own = lyapunov_spectrum(getattr(network, name), inputs, warmup_steps=2)
        torch.testing.assert_close(found[name].exponents, own.exponents)


def test_nothing_of_the_network_changes() -> None:
    network = Predictor().train()
    network.read_out.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [part.training for part in network.modules()]
    random = torch.get_rng_state()
    spectra_of(network, BATCH)
    assert [part.training for part in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.rnn._forward_pre_hooks


def test_sequences_and_steps_can_be_limited() -> None:
    network = Predictor()
    estimate = spectra_of(network, BATCH, num_sequences=3, num_steps=7, warmup_steps=2)["rnn"]
    assert estimate.num_sequences == 3
    assert estimate.steps.tolist() == [5, 5, 5]
    own = lyapunov_spectrum(network.rnn, BATCH[:3, :7], warmup_steps=2)
    assert torch.equal(estimate.exponents, own.exponents)


def test_a_module_with_fewer_exponents_gives_all_it_has() -> None:
    found = spectra_of(EncoderDecoder(), BATCH, num_exponents=8)
    assert {name: e.num_exponents for name, e in found.items()} == {"encoder": 4, "decoder": 8}
    found = spectra_of(EncoderDecoder(), BATCH, num_exponents=8, state="hidden")
    assert found["decoder"].num_exponents == 6


def test_modules_can_be_chosen() -> None:
    assert list(spectra_of(EncoderDecoder(), BATCH, modules=["decoder"])) == ["decoder"]
    with pytest.raises(ValueError, match="among"):
        spectra_of(EncoderDecoder(), BATCH, modules=["other"])


def test_a_forward_pass_may_take_several_arguments() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(FEATURES, 4, batch_first=True)

        def forward(self, inputs: Tensor, scale: float) -> Tensor:
            return self.rnn(inputs * scale)[0]

    network = Two()
    estimate = spectra_of(network, (BATCH, 2.0))["rnn"]
    assert torch.equal(estimate.exponents, lyapunov_spectrum(network.rnn, 2 * BATCH).exponents)


def test_a_network_without_recurrence_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected at least one"):
        spectra_of(nn.Linear(FEATURES, 2), BATCH)
