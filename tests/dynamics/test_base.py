"""What all dynamics share."""

from typing import Any

import numpy as np
import pytest
import torch

from lightning_lyap.dynamics import AutodiffDynamics, Dynamics, from_torch_module
from lightning_lyap.dynamics.base import as_state_tensors, compute_dtype, stack_rows
from tests.cells import build


def test_stacked_rows_are_column_major() -> None:
    blocks = [torch.randn(2, 3, 4), torch.randn(2, 5, 4)]
    stacked = stack_rows(blocks)
    assert torch.equal(stacked, torch.cat(blocks, dim=1))
    assert stacked.mT.is_contiguous()
    assert stack_rows(blocks[:1]) is blocks[0]


@pytest.mark.parametrize(
    ("own", "wanted", "expected"),
    [
        (torch.float32, None, torch.float32),
        (torch.float64, None, torch.float64),
        (torch.float16, None, torch.float32),
        (torch.bfloat16, None, torch.float32),
        (torch.float64, torch.float32, torch.float32),
        (torch.bfloat16, torch.float64, torch.float64),
    ],
)
def test_type_of_the_arithmetic(
    own: torch.dtype, wanted: torch.dtype | None, expected: torch.dtype
) -> None:
    assert compute_dtype(own, wanted) == expected


@pytest.mark.parametrize("wanted", [torch.float16, torch.bfloat16, torch.int64, "float32"])
def test_types_without_qr_are_refused(wanted: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected `dtype` .*, but got"):
        compute_dtype(torch.float32, wanted)


@pytest.mark.parametrize("given", [1.0, "zeros", None, np.zeros(3), [[0.0]], (torch.ones(1), 2)])
def test_states_that_are_no_tensors_are_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="Expected a state to be a tensor or a tuple of tensors"):
        as_state_tensors(given)


def test_both_kinds_of_dynamics_keep_the_protocol() -> None:
    assert isinstance(from_torch_module(build("lstm")), Dynamics)
    assert isinstance(AutodiffDynamics(lambda x, s: s, torch.zeros(1, 2)), Dynamics)
