"""The emulated laser of `opu emulate`, in a process of its own as a user runs it."""

import io
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from opu_driver import open_bench
from tools.emulate import _watch

pytest.importorskip("serial", reason="pyserial is not installed: pip install 'opu[serial]'")
pytest.importorskip("pypylon", reason="pypylon is not installed: pip install 'opu[pylon]'")


def wait_for(path, process):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_it_serves_a_bench_and_takes_its_file_away_at_the_end(started, tmp_path):
    process = started("emulate", "--preset=quiet", "--seed=3", "--out=e.toml")
    path = tmp_path / "e.toml"
    wait_for(path, process)
    with open_bench(path) as bench:
        assert len(bench.expose(bench.layout(4).all_on())) == 1
        assert "Cobolt" in str(bench.laser.identity)
        time.sleep(1.0)  # the light stays on for a while, and is seen
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "laser 5 mW" in out
    assert out.rstrip().endswith("dark")
    assert not path.exists()
    assert "Interrupted" in err


def test_what_changed_since_the_last_look_is_told_at_the_end(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("off\n"))
    head = SimpleNamespace(output_mw=5.0, shining=True)

    def off(words):
        head.shining = False
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _watch(head, off, None)
    told = capsys.readouterr().out.splitlines()
    assert [line.split("laser ")[1] for line in told] == ["5 mW", "dark"]


def test_a_hand_at_the_laser_is_heard(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from tools.main import main; sys.exit(main())",
            "emulate",
            "--for-s=3",
        ],
        input="interlock open\nfoo\n",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "not understood: foo" in done.stdout


def test_wrong_numbers_and_taken_places_are_refused(opu, tmp_path):
    assert opu("emulate", "--seed=-1").code == 2
    assert opu("emulate", "--for-s=0").code == 2
    assert opu("emulate", "--preset=silent", "--for-s=1").code == 2
    (tmp_path / "emulated-bench.toml").write_text("mine")
    assert opu("emulate", "--for-s=1").code == 2
    assert (tmp_path / "emulated-bench.toml").read_text() == "mine"
