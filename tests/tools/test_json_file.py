import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tools.json_file import plain, write_json, write_text


@dataclass(frozen=True)
class Pair:
    a: float
    b: tuple[int, ...]


def test_everything_becomes_plain():
    content = {
        "pair": Pair(1.5, (1, 2)),
        "array": np.arange(3, dtype=np.float32),
        "number": np.float64(2.0),
        "nan": float("nan"),
        "infinite": np.array([np.inf, 1.0]),
        "path": Path("x"),
        3: None,
    }
    assert plain(content) == {
        "pair": {"a": 1.5, "b": [1, 2]},
        "array": [0.0, 1.0, 2.0],
        "number": 2.0,
        "nan": None,
        "infinite": [None, 1.0],
        "path": "x",
        "3": None,
    }


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "half")
    assert json.loads(path.read_text()) == {"a": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(None, {"a": 1})
    assert not list(tmp_path.iterdir())
