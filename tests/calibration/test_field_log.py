"""The log of a measurement on disks that are full, and in the hands of two."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from calibration.errors import CalibrationFileError
from calibration.field_log import CHUNK_MODES, FieldLog

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX's limit of a file's size")

ENDS, MODES = [100, 200, 300], CHUNK_MODES + 44

WRITING = """
    import resource, sys
    from pathlib import Path

    import numpy as np

    from calibration.errors import CalibrationFileError
    from calibration.field_log import FieldLog

    folder, modes = Path(sys.argv[1]), int(sys.argv[2])
    path = folder / "fields.h5"
    ends = [100, 200, 300]
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def room(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    def create():
        return FieldLog.create(path, "header", ends, modes, matrix_inputs=20)

    def add(log, run):
        fields = np.full((100, modes), run + 1, np.complex64)
        log.append(fields, np.full((3, modes), run + 1, np.complex64), 0.25)
"""


def in_a_process(script: str, folder: Path) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(WRITING) + textwrap.dedent(script),
            str(folder),
            str(MODES),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@posix
def test_a_disk_that_fills_up_is_told_and_loses_no_run(tmp_path: Path) -> None:
    told = in_a_process(
        """
        create().__exit__(None, None, None)
        size = path.stat().st_size
        path.unlink()
        for limit in np.linspace(0, size, 30, endpoint=False, dtype=int):
            added = 0
            try:
                with create() as log:
                    add(log, 0)
                    added = 1
                    room(int(limit))
                    for run in (1, 2):
                        add(log, run)
                        added += 1
            except CalibrationFileError as error:
                assert "cannot be kept" in str(error), error
                print("told")
            room(hard)
            with FieldLog.resume(path) as log:
                assert log.done == added, (limit, log.done, added)
                for run in range(added, 3):
                    add(log, run)
                fields = log.fields(slice(0, 300))
                assert (fields == np.repeat([1, 2, 3], 100)[:, None]).all(), limit
                assert all((log.markers(run) == run + 1).all() for run in range(3))
            path.unlink()
        """,
        tmp_path,
    )
    assert told.count("told") >= 15


@posix
def test_a_matrix_that_does_not_get_onto_the_disk_is_told(tmp_path: Path) -> None:
    told = in_a_process(
        """
        with create() as log:
            add(log, 0)
            room(0)
            try:
                log.write_matrix(slice(0, modes), np.ones((modes, 20), np.complex64))
            except CalibrationFileError:
                print("told")
                room(hard)
                raise SystemExit
        """,
        tmp_path,
    )
    assert told == "told\n"


@posix
def test_a_log_for_which_there_is_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    told = in_a_process(
        """
        create().__exit__(None, None, None)
        size = path.stat().st_size
        path.unlink()
        for limit in np.linspace(0, size, 30, endpoint=False, dtype=int):
            room(int(limit))
            try:
                create()
            except CalibrationFileError as error:
                assert "has room" in str(error), error
                print("told")
            room(hard)
            assert list(folder.iterdir()) == [], limit
        """,
        tmp_path,
    )
    assert told.count("told") == 30


@pytest.mark.skipif(sys.platform != "linux", reason="only there are the blocks set aside at once")
def test_the_disk_has_set_all_room_aside(tmp_path: Path) -> None:
    path = tmp_path / "fields.h5"
    with FieldLog.create(path, "header", ENDS, MODES, matrix_inputs=20):
        found = path.stat()
    assert found.st_blocks * 512 >= found.st_size


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "fields.h5"
    path.write_text("precious")
    with pytest.raises(CalibrationFileError, match="exists already"):
        FieldLog.create(path, "header", ENDS, MODES)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="a log is not locked on Windows")
def test_two_measurements_do_not_share_a_log(tmp_path: Path) -> None:
    path = tmp_path / "fields.h5"
    with (
        FieldLog.create(path, "header", ENDS, MODES),
        pytest.raises(CalibrationFileError, match="another measurement is using it"),
    ):
        FieldLog.resume(path)
    with FieldLog.resume(path) as log:
        assert log.done == 0


def test_the_matrix_stays_readable_when_the_log_is_closed(tmp_path: Path) -> None:
    matrix = np.arange(MODES * 20).reshape(MODES, 20).astype(np.complex64)
    with FieldLog.create(tmp_path / "fields.h5", "header", ENDS, MODES, 20) as log:
        log.write_matrix(slice(0, 100), matrix[:100])
        log.write_matrix(slice(100, MODES), matrix[100:])
        kept = log.matrix()
    np.testing.assert_array_equal(kept, matrix)
