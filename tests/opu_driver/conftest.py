"""The conformance suite, run on a bench file in a process of its own, as a user runs it."""

import os
import subprocess
import sys
import textwrap

import pytest


@pytest.fixture
def conforms(tmp_path):
    """Run the suite on a bench file, fully: all of it, or the named module; no failure, no error.

    Modules are `test_modulator`, `test_camera`, `test_laser`, `test_bench`, `test_device`.
    """

    def run(bench, module=None, *, plugins=(), environment=None, also=()):
        path = tmp_path / "bench.toml"
        path.write_text(textwrap.dedent(bench), encoding="utf-8")
        suite = "opu_driver.conformance" + (f".{module}" if module else "")
        command = [sys.executable, "-m", "pytest", "--pyargs", suite, "--bench", str(path)]
        command += ["--disturb", "3", "-q", "-rs", "-p", "no:cacheprovider", "-W", "error", *also]
        command += [f"-p{plugin}" for plugin in plugins]
        result = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTEST_ADDOPTS": "", **(environment or {})},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-4000:]
        return result.stdout

    return run
