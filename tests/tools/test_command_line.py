import builtins
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from opu_driver.errors import FrameMismatchError, SettingError
from tools import main as command
from tools.interruption import InterruptError, advice, interruptible
from tools.start import start
from training.errors import DivergedError, TapError, TrainingInputError

SUBCOMMANDS = ("demo", "init", "calibrate", "acquire", "inspect", "train")


def test_help_names_every_subcommand_in_its_group(opu):
    ending = opu("--help")
    assert ending.code == 0
    for word in (*SUBCOMMANDS, "Start here", "Bench", "Training", "Examples", "Exit codes"):
        assert word in ending.out


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_every_subcommand_explains_itself(opu, subcommand):
    ending = opu(subcommand, "--help")
    assert ending.code == 0
    assert f"opu {subcommand}" in ending.out


def test_version(opu):
    from importlib.metadata import version

    ending = opu("--version")
    assert (ending.code, ending.out.strip()) == (0, f"opu {version('opu')}")


def test_without_arguments_help_is_shown(opu):
    ending = opu()
    assert "Usage" in ending.out + ending.err
    assert ending.code in (0, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("calibrat",),
        ("calibrate",),
        ("calibrate", "--inputs", "ten", "--out", "x.h5"),
        ("init", "--colour", "red"),
        ("inspect",),
    ],
)
def test_wrong_usage_ends_with_2(opu, arguments):
    ending = opu(*arguments)
    assert ending.code == 2
    assert "Traceback" not in ending.err
    assert ending.err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (SettingError("power_mw = 900"), 2, "power_mw = 900"),
        (FrameMismatchError("3 frames lost", 3), 1, "3 frames lost"),
        (TapError("no such tap"), 2, "no such tap"),
        (DivergedError("the loss diverged"), 1, "the loss diverged"),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "Permission denied: '/x/y'"),
        (InterruptError("SIGTERM"), 130, "Interrupted (SIGTERM)"),
        (ZeroDivisionError("division by zero"), 1, "a fault of the software"),
    ],
)
def test_errors_become_a_paragraph_and_an_exit_code(opu, monkeypatch, error, code, told):
    def fail(arguments, prog_name):
        raise error

    monkeypatch.setattr(command, "app", fail)
    ending = opu("demo")
    assert ending.code == code
    assert told in ending.err
    assert "Traceback" not in ending.err
    assert len(ending.err.strip().splitlines()) == 1


def test_debug_shows_where_an_error_arose(opu):
    ending = opu("--debug", "inspect", "missing.h5")
    assert ending.code == 2
    assert "Traceback" in ending.err
    assert "missing.h5 cannot be opened" in ending.err
    assert "Traceback" not in opu("inspect", "missing.h5").err


def test_verbose_tells_commands_to_the_laser(opu):
    told = opu("--verbose", "acquire", "--patterns=on", "--frames=2", "--out=a.h5").err
    assert "opu.laser" in told
    assert "emission on at 10 mW" in told
    assert told.rindex("emission off") > told.rindex("emission on")
    assert "opu.laser" not in opu("acquire", "--patterns=on", "--frames=2", "--out=b.h5").err
    assert logging.getLogger("opu").level == logging.WARNING


def test_help_loads_nothing_heavy():
    heavy = ("torch", "numba", "matplotlib", "scipy", "h5py")
    program = (
        "import sys; from tools.main import main; main(['--help']); "
        f"sys.exit(' '.join(name for name in {heavy} if name in sys.modules) or 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_ctrl_c_while_the_application_is_imported_ends_quietly(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as early:
        early.setattr(builtins, "__import__", interrupted)
        code = start()
    assert code == 130
    assert capsys.readouterr().err == "Interrupted (SIGINT). Nothing was begun.\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_unwind_and_are_given_back(name):
    number = getattr(signal, name)
    before = signal.signal(number, signal.default_int_handler)  # whatever the tests run under
    try:
        with pytest.raises(InterruptError, match=name), interruptible():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("ending", [None, SystemExit(0)], ids=["done", "exit 0"])
def test_a_signal_that_python_swallows_still_ends_the_command(ending):
    class Swallows:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptError, match="SIGTERM"), interruptible():
        swallows = Swallows()
        del swallows
        if ending is not None:
            raise ending


def test_a_signal_that_python_swallows_is_raised_again_soon():
    class Swallows:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    def work_on():
        swallows = Swallows()
        del swallows
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            time.sleep(0.005)
        return "worked to the end"

    with pytest.raises(InterruptError, match="SIGTERM"), interruptible():
        assert work_on() is None


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_advice_is_given_only_if_something_was_left(tmp_path):
    left = tmp_path / "left"
    with pytest.raises(ValueError, match="x") as caught, advice("go on", if_there=left):
        raise ValueError("x")
    assert not hasattr(caught.value, "__notes__")
    left.touch()
    with pytest.raises(ValueError, match="x") as caught, advice("go on", if_there=left):
        raise ValueError("x")
    assert caught.value.__notes__ == ["go on"]


@pytest.mark.parametrize("error", [SettingError("x"), TrainingInputError("x")])
def test_wrong_input_is_not_advised_to_go_on_as_it_did(tmp_path, error):
    left = tmp_path / "left"
    left.touch()
    with pytest.raises(type(error)) as caught, advice("go on", if_there=left):
        raise error
    assert not hasattr(caught.value, "__notes__")
    left.unlink()
    with pytest.raises(type(error)) as caught, advice("go on", if_there=left):
        left.touch()
        raise error
    assert caught.value.__notes__ == ["go on"]
