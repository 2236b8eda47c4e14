from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from training.errors import TrainingError
from training.outside import Outside


def doubled(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows], -1)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_end_outside(compiled: bool) -> None:
    outside = Outside(doubled, width=6)

    def around(rows: Tensor) -> Tensor:
        return outside(rows) + 1

    call = torch.compile(around, fullgraph=True, backend="eager") if compiled else around
    answer = call(torch.ones(2, 3, requires_grad=True))
    assert torch.equal(answer, torch.full((2, 6), 2.0))
    assert not answer.requires_grad


@pytest.mark.parametrize("compiled", [False, True])
def test_an_answer_of_another_width_is_refused(compiled: bool) -> None:
    outside = Outside(doubled)

    def around(rows: Tensor) -> Tensor:
        return outside(rows) + 1

    call = torch.compile(around, fullgraph=True, backend="eager") if compiled else around
    with pytest.raises(TrainingError, match=r"shape \(2, 6\) to rows \(2, 3\): \(2, 3\) was"):
        call(torch.ones(2, 3))


def test_a_copy_has_a_handle_of_its_own() -> None:
    outside = Outside(doubled, width=6)
    copied = copy.deepcopy(outside)
    assert copied.handle != outside.handle
    assert torch.equal(copied(torch.ones(1, 3)), torch.ones(1, 6))


def test_the_operator_obeys_the_rules_of_custom_operators() -> None:
    """Fake, schema and dispatch against the real call, by torch's own check."""
    outside = Outside(doubled, width=6)
    for rows in (torch.randn(2, 3), torch.randn(4, 5, 3, dtype=torch.float64)):
        torch.library.opcheck(
            torch.ops.opu.outside.default,
            (rows, outside.handle, 6),
            test_utils=("test_schema", "test_faketensor"),
        )
