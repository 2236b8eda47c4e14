"""The tutorials run as they stand, and were run before they were committed."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.ipynb"))
IDS = [path.stem for path in TUTORIALS]


def outputs(notebook):
    """What each code cell shows, by kind."""
    return [
        {kind for output in cell.outputs for kind in output.get("data", {"text": ""})}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_there_are_three():
    assert IDS == ["first_light", "inspecting_speckle", "training_through_the_bench"]


@pytest.mark.parametrize("path", TUTORIALS, ids=IDS)
def test_what_is_committed_was_executed(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 1_500_000
    assert not re.search(r"/(home|root|tmp|opt|Users)/", text)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook machinery
@pytest.mark.parametrize("path", TUTORIALS, ids=IDS)
def test_a_tutorial_runs_and_shows_what_it_showed(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    before = outputs(notebook)
    client = NotebookClient(
        notebook,
        timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    assert outputs(notebook) == before
