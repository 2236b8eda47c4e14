"""`opu train` in two processes, of which the first one owns the bench."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0
TRAINING = ("-m", "tools.main", "train", "digits", "--preset", "ideal", "--epochs", "1")

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="needs torch with gloo"
)


def test_one_bench_one_folder_and_one_table(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launched = subprocess.Popen(
        [*torchrun, "--standalone", *TRAINING, "--feedback", "optical", "--out", "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
    )
    try:
        out, err = launched.communicate(timeout=DEADLINE_S)
    finally:
        if launched.poll() is None:  # it ends its processes before it ends itself
            launched.send_signal(signal.SIGTERM)
            launched.wait(60)
    assert launched.returncode == 0, err
    assert out.count("digits, recipe best, test set") == 1
    lines = (tmp_path / "run" / "optical-seed0" / "metrics.jsonl").read_text().splitlines()
    header, before, after = map(json.loads, lines)
    assert header["settings"]["feedback"] == "optical"
    assert before["projector"]["rows"] == 256  # the probe, in two parts
    assert after["projector"]["rows"] == 2 * 256 + 1437
    assert after["projector"]["exposures"] > after["projector"]["rows"]
