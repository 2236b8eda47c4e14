"""One process owns a device; a crash leaves nothing to clean up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opu_driver import ownership
from opu_driver.errors import DeviceBusyError, DeviceError
from opu_driver.ownership import Ownership, default_folder

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


@pytest.mark.parametrize(
    ("platform", "folder"),
    [("linux", "/tmp/opu-locks"), ("darwin", "/Users/Shared/opu-locks")],
)
def test_all_users_of_a_machine_share_one_folder(monkeypatch, platform, folder):
    monkeypatch.delenv("OPU_LOCKS")
    monkeypatch.setenv("TMPDIR", "/home/somebody/tmp")
    monkeypatch.setattr(sys, "platform", platform)
    assert default_folder() == Path(folder)
    monkeypatch.setenv("OPU_LOCKS", "/srv/locks")
    assert default_folder() == Path("/srv/locks")


def test_windows_has_a_folder_that_all_users_may_change(monkeypatch, tmp_path):
    monkeypatch.delenv("OPU_LOCKS")
    monkeypatch.setattr(sys, "platform", "win32")
    assert default_folder() == Path(r"C:\ProgramData", "opu-locks")
    granted = []
    monkeypatch.setattr(ownership.subprocess, "run", lambda line, **_: granted.append(line))
    for _ in range(2):
        with Ownership(["alp 1"], tmp_path / "locks"):
            pass
    (line,) = granted
    assert line[:3] == ["icacls", str(tmp_path / "locks"), "/grant"]


def test_everybody_may_lock_and_only_owners_may_remove(tmp_path):
    umask = os.umask(0o077)
    try:
        with Ownership(["alp 1"], tmp_path / "locks"):
            pass
    finally:
        os.umask(umask)
    assert (tmp_path / "locks").stat().st_mode & 0o7777 == 0o1777
    assert [file.stat().st_mode & 0o777 for file in (tmp_path / "locks").iterdir()] == [0o666] * 2


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root becomes another user"
)
def test_another_user_is_refused_told_and_takes_over():
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        locks = Path(folder, "locks")
        take = (
            "import os; from pathlib import Path; from opu_driver.ownership import Ownership\n"
            "os.setuid(65534)\n"
            f"with Ownership(['alp 1'], Path({str(locks)!r})): print('owns')"
        )
        command = [sys.executable, "-c", take]
        with Ownership(["alp 1"], locks):
            refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"in use by process {os.getpid()} of" in refused.stderr
        assert subprocess.run(command, capture_output=True, text=True).stdout == "owns\n"
        with Ownership(["alp 1"], locks):  # whose note the other one has written
            pass
