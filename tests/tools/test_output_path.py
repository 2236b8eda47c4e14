"""Results replace nothing but results of their kind, and never each other."""

import os
from pathlib import Path

import pytest

from tools.output_path import OutputError, require_writable

PAGE = b"<!doctype html><html></html>"
FIGURES = b'{"a": 1}\n'
OTHERS = {
    "c.h5": b"opu-calibration schema 1 sha256 0\n",
    "r.h5": b"\x89HDF\r\n\x1a\n",
    "b.toml": b'[laser]\ndriver = "simulated"\n',
    "l.jsonl": b'{"power_mw": 1}\n{"power_mw": 2}\n',
    "words": b"\xff\xfe",
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("kind", ["json", "html"])
def test_another_kind_of_file_is_not_replaced(tmp_path, name, kind):
    (tmp_path / name).write_bytes(OTHERS[name])
    with pytest.raises(OutputError, match=rf"{name} exists already and is no"):
        require_writable(**{kind: tmp_path / name})


def test_figures_and_pages_are_replaced_by_their_kind_alone(tmp_path):
    figures, page, empty = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    figures.write_bytes(FIGURES)
    page.write_bytes(PAGE)
    empty.touch()
    require_writable(json=figures, html=page)
    require_writable(json=empty)
    with pytest.raises(OutputError, match="no JSON file"):
        require_writable(json=page)
    with pytest.raises(OutputError, match="no HTML page"):
        require_writable(html=figures)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="pipe exists already"):
        require_writable(json=tmp_path / "pipe")


@pytest.mark.parametrize(
    "places",
    [
        {"json": Path("a"), "html": Path("a")},
        {"json": Path("a"), "html": Path("x/../a")},
        {"json": Path("a"), "folder": Path("a")},
        {"html": Path("a"), "folder": Path("a")},
    ],
)
def test_results_do_not_share_a_place(tmp_path, monkeypatch, places):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    with pytest.raises(OutputError, match="for two results"):
        require_writable(Path("out.h5"), None, **places)
    require_writable(Path("out.h5"), None, json=Path("a"), html=Path("b"), folder=Path("c"))


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("acquire --preset=quiet --patterns=on --frames=2 --out=a.h5 --json=a.h5", "two results"),
        ("acquire --preset=quiet --patterns=on --frames=2 --out=a.h5 --json=a.partial.h5", "two"),
        ("acquire --preset=quiet --patterns=on --frames=2 --out=a.h5 --json=a.npy --average=a.npy",
         "two results"),
        ("acquire --preset=quiet --patterns=on --frames=2 --out=a.h5 --json=kept.h5", "no JSON"),
        ("calibrate --preset=quiet --inputs=4 --out=a.h5 --json=a.h5", "two results"),
        ("calibrate --preset=quiet --inputs=4 --out=a.h5 --json=a.partial.h5", "two results"),
        ("calibrate --preset=quiet --inputs=4 --out=a.h5 --record=a.h5", "two results"),
        ("calibrate --preset=quiet --inputs=4 --out=a.h5 --record=b.h5 --json=b.partial.h5", "two"),
        ("calibrate --preset=quiet --inputs=4 --out=a.h5 --report=a.html --json=a.html", "two"),
        ("calibrate --bench=bench.toml --inputs=4 --out=a.h5 --json=bench.toml", "no JSON"),
        ("calibrate --bench=bench.toml --inputs=4 --out=a.h5 --report=bench.toml", "no HTML"),
        ("acquire --preset=quiet --patterns=on --frames=2 --out=rec.tif", "rec.tif is no name"),
        ("acquire --preset=quiet --patterns=on --frames=2 --out=rec", "end in .h5 or .hdf5"),
        ("acquire --preset=quiet --patterns=on --frames=2 --out=.", "no name for a recording"),
        ("calibrate --preset=quiet --inputs=4 --out=a.h5 --record=r.npy", "r.npy is no name"),
        ("compare kept.h5 kept.h5 --json=d --html=d", "two results"),
        ("compare kept.h5 kept.h5 --json=kept.h5", "no JSON"),
        ("cost digits --json=kept.h5", "no JSON"),
        ("demo --json=kept.h5", "no JSON"),
        ("demo --out=. --json=calibration.h5", "two results"),
        ("devices --json=kept.h5", "no JSON"),
        ("doctor --preset=quiet --json=d --html=d", "two results"),
        ("doctor --bench=bench.toml --html=bench.toml", "no HTML"),
        ("inspect kept.h5 --html=kept.h5", "no HTML"),
        ("inspect kept.h5 --json=kept.h5", "no JSON"),
        ("recipes --json=kept.h5", "no JSON"),
        ("sweep digits --over=shot-noise --out=a --json=a", "two results"),
        ("sweep digits --over=shot-noise --report=kept.h5", "no HTML"),
        ("train digits --feedback=exact --out=a --report=a", "two results"),
        ("train digits --feedback=exact --json=kept.h5", "no JSON"),
    ],
)  # fmt: skip
def test_every_command_refuses_before_it_works(opu, tmp_path, command, told):
    (tmp_path / "kept.h5").write_bytes(OTHERS["c.h5"])
    (tmp_path / "bench.toml").write_bytes(OTHERS["b.toml"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ending = opu(*command.split())
    assert ending.code == 2, ending.err
    assert told in ending.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
