"""A suite without devices to test says so once; pytest without the suite is left alone."""

import os
import subprocess
import sys

import pytest

SUITE = ("--pyargs", "opu_driver.conformance", "--disturb", "0")


@pytest.fixture
def pytest_of(tmp_path):
    """Run pytest in an empty folder; its code and all that it says."""

    def run(*arguments):
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return result.returncode, result.stdout + result.stderr

    return run


@pytest.mark.parametrize(
    ("bench", "remedy"),
    [
        ((), "Name the devices under test: --bench my_bench.toml"),
        (("--bench", "nowhere.toml"), "nowhere.toml cannot be read"),
        (("--bench", "bad.toml"), "laser.power_mw = True"),
    ],
    ids=["none", "missing", "wrong"],
)
def test_a_bench_file_that_cannot_be_read_is_one_error(pytest_of, tmp_path, bench, remedy):
    (tmp_path / "bad.toml").write_text("[laser]\ndriver = 'virtual'\npower_mw = true\n")
    code, told = pytest_of(*SUITE, *bench)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert told.count("ERROR") == 1
    assert remedy in told
    assert "Traceback" not in told


def test_the_suite_can_be_listed_without_devices(pytest_of):
    code, told = pytest_of(*SUITE, "--collect-only", "-q")
    assert code == 0
    assert "test_camera.py" in told


def test_tests_of_others_need_no_bench(pytest_of, tmp_path):
    (tmp_path / "test_theirs.py").write_text("def test_it(): pass\n")
    assert pytest_of("test_theirs.py")[0] == 0
