"""A process without a share of the sequences knows the sizes of its modules, and draws nothing."""

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap.callback.measurement import combine_processes, estimate_spectra
from tests.cells import INPUT_SIZE, build, sequences
from tests.probing import driving, measure, settings
from tests.registering import registered


class Halving(nn.Module):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h / 2


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_a_process_without_a_share_knows_the_layers_too() -> None:
    chosen = settings(layers="union", num_exponents=3)
    measured = measure({"rnn": build("lstm", num_layers=2)}, {}, chosen)["rnn"]
    assert measured.spectrum.num_exponents == 3
    assert measured.is_lost
    assert measured.fault is None


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_a_process_without_a_share_knows_the_size_alone() -> None:
    measured = measure({"rnn": build("lstm")}, {}, settings(state="hidden"))["rnn"]
    assert measured.estimate is None
    assert measured.spectrum.num_exponents == 7
    assert measured.spectrum.num_sequences == 0
    assert bool(measured.spectrum.exponents.isnan().all())


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_a_process_without_a_share_draws_nothing() -> None:
    """Its generators decide about its part of the training, as those of the others do."""
    before = torch.get_rng_state()
    with registered(Halving, initial_state=lambda cell, batch_size: torch.randn(batch_size, 4)):
        measured = combine_processes({"rnn": Halving()}, {}, settings())["rnn"]
    assert measured.spectrum.num_exponents == 4
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize("num_exponents", [None, 3, 9])
def test_cells_and_registered_modules_have_the_size_of_their_state(
    num_exponents: int | None,
) -> None:
    modules = {"own": Halving(), "cell": nn.LSTMCell(INPUT_SIZE, 4)}
    here = {name: driving(sequences(3).float()) for name in modules}
    chosen = settings(num_exponents=num_exponents)
    with registered(Halving, initial_state=lambda module, batch_size: torch.zeros(batch_size, 5)):
        for inputs in (here, {}):
            measured = measure(modules, inputs, chosen)
            assert measured["own"].spectrum.num_exponents == min(num_exponents or 5, 5)
            assert measured["cell"].spectrum.num_exponents == min(num_exponents or 8, 8)


def test_a_registered_module_without_a_default_says_so_where_it_has_no_sequence() -> None:
    """Before the processes meet: none waits for another."""
    given = driving(sequences(3).float(), initial_state=torch.zeros(3, 5))
    with registered(Halving):
        measured = measure({"own": Halving()}, {"own": given}, settings())
        assert measured["own"].spectrum.num_exponents == 5
        with pytest.raises(ValueError, match=r"with a Halving, but got None.*register_recurrence"):
            estimate_spectra({"own": Halving()}, {}, settings())
