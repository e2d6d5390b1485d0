"""Measuring changes nothing, and nothing outside changes the measurement."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.systems import henon_step
from tests.cells import INPUT_SIZE, ONE_OF_EACH, Case, build
from tests.compare import assert_near

Measure = Callable[[], SpectrumEstimate]


@contextmanager
def matmul_precision(word: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(word)
    try:
        yield
        assert torch.get_float32_matmul_precision() == word
    finally:
        torch.set_float32_matmul_precision(before)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "plain": nullcontext,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "medium": lambda: matmul_precision("medium"),
    "high": lambda: matmul_precision("high"),
    "default_device": lambda: torch.device("meta"),
}


def of_module() -> SpectrumEstimate:
    generator = torch.Generator(device="cpu").manual_seed(5)
    x = torch.randn(2, 12, INPUT_SIZE, generator=generator, device="cpu")
    return lyapunov_spectrum(MODULE, x, num_exponents=4)


def of_step_function() -> SpectrumEstimate:
    """A step with a matrix product, which autocast would take to bfloat16."""
    matrix = torch.tensor([[0.9, 0.3], [-0.2, 0.7]], device="cpu", requires_grad=True)
    start = torch.full((2, 2), 0.1, device="cpu")
    inputs = torch.zeros(2, 12, 0, device="cpu")
    return lyapunov_spectrum(lambda x, s: torch.tanh(s @ matrix), inputs, initial_state=start)


MODULE = nn.LSTM(INPUT_SIZE, 16, num_layers=2, dropout=0.5)


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
@pytest.mark.parametrize("measure", [of_module, of_step_function])
def test_surroundings_do_not_matter(measure: Measure, surrounding: str) -> None:
    expected = measure()
    with SURROUNDINGS[surrounding]():
        got = measure()
    assert torch.equal(got.exponents, expected.exponents)
    assert torch.equal(got.final_basis, expected.final_basis)
    assert not got.final_basis.requires_grad


def test_insidefull_precision_outside_as_before() -> None:
    """Seen from within, by the progress function.

    On CPUs without bfloat16 products the numbers alone would not tell.
    """
    seen: list[tuple[bool, str]] = []

    def settings() -> tuple[bool, str]:
        cpu: Any = getattr(torch.backends.mkldnn, "matmul", None)
        word = getattr(cpu, "fp32_precision", torch.get_float32_matmul_precision())
        return torch.is_autocast_enabled("cpu"), word

    with matmul_precision("medium"), torch.autocast("cpu", dtype=torch.bfloat16):
        before = settings()
        lyapunov_spectrum(MODULE, torch.randn(1, 2, 3), progress=lambda *_: seen.append(settings()))
        assert settings() == before
    assert before[0]
    assert before[1] in {"bf16", "medium"}
    assert seen in ([(False, "ieee")] * 2, [(False, "highest")] * 2)


def test_settings_come_back_after_an_error() -> None:
    def broken(x: Tensor, s: Tensor) -> Tensor:
        raise KeyError("broken")

    with matmul_precision("high"), torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(KeyError):
            lyapunov_spectrum(broken, torch.zeros(1, 2, 0), initial_state=torch.zeros(1, 2))
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.is_grad_enabled()


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("num_exponents", [None, 3])
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_modules_are_left_as_they_are(case: Case, num_exponents: int | None) -> None:
    """Train mode with dropout, gradients, versions of the weights, frozen weights."""
    module = case.module(dropout=0.5).train()
    x = torch.randn(2, 8, INPUT_SIZE, dtype=torch.float64)
    module(x)[0].sum().backward()
    module.weight_ih_l0.requires_grad_(False)
    before = [
        (p.clone(), p.grad, None if p.grad is None else p.grad.clone(), p.requires_grad, p._version)
        for p in module.parameters()
    ]
    lyapunov_spectrum(module, x, num_exponents=num_exponents, state=case.state)
    assert module.training
    for p, (value, grad, grad_value, requires_grad, version) in zip(
        module.parameters(), before, strict=True
    ):
        assert torch.equal(p, value)
        assert p.grad is grad
        assert grad is None or (grad_value is not None and torch.equal(grad, grad_value))
        assert (p.requires_grad, p._version) == (requires_grad, version)


def test_dropout_and_mode_do_not_matter() -> None:
    module = build("gru", num_layers=3, dropout=0.9)
    x = torch.randn(2, 10, INPUT_SIZE, dtype=torch.float64)
    train = lyapunov_spectrum(module.train(), x)
    assert torch.equal(train.exponents, lyapunov_spectrum(module.eval(), x).exponents)


@pytest.mark.parametrize("measure", [of_module, of_step_function])
def test_no_random_number_is_drawn(measure: Measure) -> None:
    measure()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    first = measure()
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    torch.manual_seed(123)
    assert torch.equal(measure().exponents, first.exponents)


def test_inputs_may_be_views_and_want_gradients() -> None:
    module = build("lstm")
    x = torch.randn(INPUT_SIZE, 9, 2, dtype=torch.float64)
    state = tuple(torch.randn(7, 2, 1, dtype=torch.float64) for _ in range(2))
    views = [tensor.permute(2, 1, 0).requires_grad_() for tensor in (x, *state)]
    assert not views[0].is_contiguous()
    copies = [view.detach().contiguous() for view in views]
    got = lyapunov_spectrum(module, views[0], initial_state=(views[1], views[2]))
    expected = lyapunov_spectrum(module, copies[0], initial_state=(copies[1], copies[2]))
    assert_near(got.exponents, expected.exponents, 1e-12)
    assert not any(tensor.requires_grad for tensor in (got.exponents, *got.final_state))
    assert all(torch.equal(v, c) for v, c in zip(views, copies, strict=True))
    assert all(view.grad is None for view in views)


def test_states_and_bases_given_are_not_written_to() -> None:
    start = torch.full((2, 2), 0.1, dtype=torch.float64)
    basis = torch.eye(2, dtype=torch.float64).repeat(2, 1, 1)
    lyapunov_spectrum(
        henon_step,
        torch.zeros(2, 5, 0, dtype=torch.float64),
        initial_state=start,
        initial_basis=basis,
        lengths=[5, 3],
    )
    assert bool((start == 0.1).all())
    assert torch.equal(basis, torch.eye(2).double().expand(2, -1, -1))


def test_repeating_gives_the_same_bits() -> None:
    assert torch.equal(of_module().per_sequence, of_module().per_sequence)


def test_another_seed_is_another_basis() -> None:
    module, x = build("tanh"), torch.randn(1, 3, INPUT_SIZE, dtype=torch.float64)
    bases = [lyapunov_spectrum(module, x, num_exponents=2, seed=s).final_basis for s in (0, 0, 1)]
    assert torch.equal(bases[0], bases[1])
    assert not torch.equal(bases[0], bases[2])
