"""The command line in this process, and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.main import main

COMMAND = [sys.executable, "-c", "import sys; from tools.main import main; sys.exit(main())"]


@dataclass(frozen=True)
class Ending:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def opu(tmp_path, monkeypatch, capsys) -> Callable[..., Ending]:
    """Run `opu ...` in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Ending:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Ending(code, told.out, told.err)

    return run


@pytest.fixture
def started(tmp_path) -> Callable[..., subprocess.Popen[str]]:
    """Start `opu ...` in a process of its own."""

    def start(*arguments: object) -> subprocess.Popen[str]:
        root = Path(__file__).resolve().parents[2]
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"},
        )

    return start
