import json
import signal
import tempfile
import time

from calibration.calibration_file import Calibration
from opu_driver import open_bench

MADE = {"bench.toml", "calibration.h5", "report.html", "summary.json"}


def test_the_demo_leaves_all_it_promises(opu, tmp_path):
    ending = opu("demo", "--epochs=1", "--json=figures.json")
    assert ending.code == 0, ending.err
    folder = tmp_path / "opu-demo"
    assert {path.name for path in folder.iterdir()} == MADE
    summary = json.loads((folder / "summary.json").read_text())
    assert json.loads((tmp_path / "figures.json").read_text()) == summary
    assert {result["feedback"] for result in summary["results"]} == {
        "optical", "digital", "ternary", "backprop", "shallow",
    }  # fmt: skip
    assert summary["projections"]["correlation"] > 0.999
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 10
    for words in ("A camera frame", "Spectrum of the frames", "Singular values", "Learning curves",
                  "Alignment angles", "Settings", "Times"):  # fmt: skip
        assert words in page
    with open_bench(folder / "bench.toml") as bench:
        Calibration.load(folder / "calibration.h5").check(bench)

    again = opu("demo", "--epochs=1")
    assert again.code == 2
    assert "--force" in again.err
    (folder / "thesis.tex").write_text("precious")
    forced = opu("demo", "--epochs=1", "--force")
    assert forced.code == 2
    assert "thesis.tex" in forced.err
    assert {path.name for path in tmp_path.iterdir()} == {"opu-demo", "figures.json"}


def test_results_of_an_earlier_demo_are_replaced_when_asked(opu, tmp_path):
    folder = tmp_path / "opu-demo"
    folder.mkdir()
    (folder / "report.html").write_text("old")
    assert opu("demo", "--epochs=1", "--force", "--seed=2").code == 0
    assert {path.name for path in folder.iterdir()} == MADE
    assert (folder / "report.html").read_text() != "old"


def test_a_terminated_demo_leaves_nothing(started, tmp_path):
    process = started("demo", "--out=mine")
    while not list(tmp_path.glob(".mine.*/calibration.h5")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate()
    assert process.returncode == 130
    assert "Interrupted (SIGTERM)" in told
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_is_refused_at_once(opu, tmp_path):
    (tmp_path / "file").write_text("a file")
    assert opu("demo", "--out=file").code == 2
    assert opu("demo", "--out=nowhere/demo").code == 2
    assert opu("demo", "--seed=-1").code == 2
    assert opu("demo", "--epochs=0").code == 2


def test_a_place_that_takes_no_folder_is_refused_at_once(opu, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    ending = opu("demo", "--out=mine")
    assert ending.code == 2
    assert "mine cannot be made" in ending.err
    assert "(Read-only file system)" in ending.err
