"""The examples of docs/without-a-tilt.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = (Path(__file__).parents[1] / "docs" / "without-a-tilt.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.parametrize("name", ["stepped", "anchored", "follower"])
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    seen: dict[str, Any] = {}
    exec(compile(EXAMPLES[name], f"without-a-tilt.md, {name}", "exec"), seen)
    totals = seen["projector"].totals()
    assert totals["exposures"] > 0
    assert totals["fidelity"] > 0.8
    if name == "stepped":
        assert (tmp_path / "on-axis.h5").exists()
        assert seen["calibration"].matrix.held_out_correlation > 0.99
    if name == "follower":
        assert totals["calibration_exposures"] > 0
        assert seen["follower"].calibration.quality.held_out_correlation > 0.9
