"""One process owns a device; a crash leaves nothing to clean up."""

import os
import subprocess
import sys

import pytest

from opu_driver.errors import DeviceBusyError, DeviceError
from opu_driver.ownership import Ownership

OWNER = """
import sys, time
from pathlib import Path
from opu_driver.ownership import Ownership

with Ownership(["serial COM3", "alp 1"], Path(sys.argv[1])):
    print("owns", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "owns\n"
        yield process
        process.kill()


def test_the_refusal_names_the_owner(owner, tmp_path):
    with pytest.raises(DeviceBusyError, match=f"alp 1 is in use by process {owner.pid} of"):
        Ownership(["alp 1"], tmp_path).__enter__()
    with Ownership(["alp 2"], tmp_path):
        pass


def test_a_refused_one_keeps_nothing(owner, tmp_path):
    with pytest.raises(DeviceBusyError):
        Ownership(["alp 0", "alp 1"], tmp_path).__enter__()
    with Ownership(["alp 0"], tmp_path):
        pass


def test_a_killed_owner_owns_nothing_any_more(owner, tmp_path):
    owner.kill()
    owner.wait()
    with Ownership(["serial COM3", "alp 1"], tmp_path):
        pass


def test_it_is_given_back_and_taken_again(tmp_path):
    for _ in range(3):
        with (
            Ownership(["alp 1"], tmp_path),
            pytest.raises(DeviceBusyError, match=f"process {os.getpid()}"),
        ):
            Ownership(["alp 1"], tmp_path).__enter__()


def test_a_folder_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DeviceError, match="cannot be locked"):
        Ownership(["alp 1"], tmp_path / "file").__enter__()


def test_a_user_without_a_name_may_own(tmp_path, monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nameless)
    with (
        Ownership(["alp 1"], tmp_path),
        pytest.raises(DeviceBusyError, match="a user without a name"),
    ):
        Ownership(["alp 1"], tmp_path).__enter__()
