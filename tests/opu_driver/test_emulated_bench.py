"""Real drivers alone: mirrors of an ALP library, frames of pylon, the light of a Cobolt."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from opu_driver import open_bench, simulated_bench
from opu_driver.camera import Region, Trigger
from opu_driver.errors import DeviceBusyError, OpuError

pytest.importorskip("serial", reason="pyserial is not installed: pip install 'opu[serial]'")
pytest.importorskip("pypylon", reason="pypylon is not installed: pip install 'opu[pylon]'")

PATIENT_MS = 5000.0


@pytest.fixture
def bench_path(cobolt, tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text(cobolt.bench_file(timeout_ms=PATIENT_MS))
    return path


@pytest.fixture
def bench(bench_path):
    with open_bench(bench_path) as bench:
        yield bench


def half_lit(bench, count, seed=0):
    bits = np.random.default_rng(seed).integers(0, 2, (count, 10), np.uint8)
    return bench.layout(10).render(bits)


@pytest.mark.parametrize(
    "module", ["test_bench", "test_camera", "test_device", "test_laser", "test_modulator"]
)
def test_it_passes_the_suite_of_all_benches(cobolt, conforms, module):
    told = conforms(cobolt.bench_file(timeout_ms=PATIENT_MS), module)
    assert " passed" in told
    assert all(emission.end_s is not None for emission in cobolt.emissions)
    if module == "test_bench":  # all that the bench file allows
        assert max(emission.highest_mw for emission in cobolt.emissions) == pytest.approx(5.0)


def test_the_suite_emits_next_to_nothing_unless_it_may_disturb_more(cobolt, conforms):
    conforms(
        cobolt.bench_file(timeout_ms=PATIENT_MS),
        "test_bench",
        also=("--disturb", "1", "-k", "any_order"),
    )
    powers_mw = [emission.highest_mw for emission in cobolt.emissions]
    assert powers_mw == pytest.approx([0.1])  # this laser's steps are that large: 2 % of 5 mW


def test_it_reaches_the_figures_of_the_simulated_bench(bench):
    from calibration.pipeline import calibrate

    emulated = calibrate(bench, 10).quality
    assert not bench.laser.status.obstacle
    with simulated_bench("quiet", 1, black_level=0.0, laser={"power_mw": 5.0}) as simulated:
        virtual = calibrate(simulated, 10).quality
    assert emulated.held_out_correlation > 0.999
    assert emulated.held_out_error == pytest.approx(virtual.held_out_error, rel=0.15)
    assert emulated.snr == pytest.approx(virtual.snr, rel=0.2)
    assert emulated.visibility == pytest.approx(virtual.visibility, rel=0.05)


def test_batches_beyond_the_memory_are_uploaded_while_others_are_shown(bench):
    patterns = half_lit(bench, 30)
    whole = bench.expose(patterns).reshape(30, -1).astype(float)
    parts = [s.frames for s in bench.stream([patterns[:10], patterns[10:20], patterns[20:]])]
    again = np.concatenate(parts).reshape(30, -1).astype(float)
    assert (np.corrcoef(whole, again)[:30, 30:].argmax(axis=1) == np.arange(30)).all()


def test_a_camera_alone_sees_darkness_of_any_region(bench_path):
    with open_bench(bench_path) as bench:
        bench.expose(half_lit(bench, 1))
        settings = bench.settings
    for region in (settings.region, Region(8, 16, 160, 320)):
        with bench.camera as camera:
            camera.configure(replace(settings, region=region, trigger=Trigger.SOFTWARE))
            camera.arm(1)
            camera.trigger()
            frame = camera.read(1, 5.0).frames[0]
        assert frame.shape == region.shape
        assert not frame.any()


def test_the_dmds_own_edges_are_counted_from_a_known_start(bench):
    bench.expose(half_lit(bench, 2))
    assert bench.frame_offset == 0


def test_a_second_process_is_told_who_has_the_bench(bench, bench_path):
    other = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from opu_driver import open_bench\nwith open_bench({str(bench_path)!r}): pass",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "DeviceBusyError" in other.stderr
    assert f"process {os.getpid()}" in other.stderr
    with pytest.raises(DeviceBusyError, match="in use by process"), open_bench(bench_path):
        pass


def test_an_idle_bench_goes_dark_also_when_its_event_loop_has_stopped(cobolt, tmp_path):
    import asyncio

    path = tmp_path / "bench.toml"
    path.write_text(cobolt.bench_file(idle_after_s=0.3, timeout_ms=PATIENT_MS))
    loop = asyncio.new_event_loop()
    with open_bench(path) as bench:

        async def expose_and_stop():
            bench.expose(half_lit(bench, 2))
            loop.stop()

        task = loop.create_task(expose_and_stop())
        loop.run_forever()
        stopped = time.monotonic()
        assert task.done()
        cobolt.wait_until(lit=False)
        assert time.monotonic() - stopped < 1.5
    loop.close()


@contextmanager
def ended_with(process):
    """Nothing outlives a test, however it ends."""
    try:
        yield
    finally:
        process.kill()


OWNER = """
import sys
import numpy as np
from opu_driver import open_bench

with open_bench(sys.argv[1]) as bench:
    patterns = bench.layout(10).render(
        np.random.default_rng(0).integers(0, 2, (200, 10), np.uint8)
    )
    print("exposing", flush=True)
    while True:
        bench.expose(patterns)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("number", "after_s"),
    [
        ("SIGKILL", 0.0),
        ("SIGKILL", 0.11),
        ("SIGKILL", 0.37),
        ("SIGKILL", 0.9),
        ("SIGKILL", 1.6),
        ("SIGTERM", 0.5),
        ("SIGINT", 0.5),
        ("SIGHUP", 0.5),
        ("SIGSTOP", 0.5),
    ],
)
def test_it_is_dark_within_a_second_when_its_owner_ends_amid_exposures(
    bench_path, cobolt, number, after_s
):
    with (
        subprocess.Popen(
            [sys.executable, "-c", OWNER, str(bench_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as owner,
        ended_with(owner),
    ):
        assert owner.stdout.readline() == "exposing\n"
        if after_s:
            cobolt.wait_until(lit=True)
        time.sleep(after_s)
        owner.send_signal(getattr(signal, number))
        ended = time.monotonic()
        cobolt.wait_until(lit=False)
        for emission in cobolt.emissions:
            assert emission.end_s - ended < 1.0
    time.sleep(0.2)
    assert cobolt.by_hand("output") == "0"


def learned(bench):
    """Accuracy on 192 digits after six passes with optical feedback."""
    from calibration.pipeline import calibrate
    from calibration.projector import OpticalProjector
    from training.datasets.digits import digits
    from training.dfa import DFA
    from training.encoding import Ternary

    examples = digits().train
    x, y = examples.images[:192].reshape(192, -1), examples.labels[:192]
    x = (x - x.mean()) / x.std()
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Tanh()),
        torch.nn.Sequential(torch.nn.Linear(128, 128), torch.nn.Tanh()),
        torch.nn.Linear(128, 10),
    )
    projector = OpticalProjector(bench, calibrate(bench, 10))
    model = DFA(net, projector, taps=["0", "1"], encoder=Ternary(0.3, relative=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(6):
        for k in range(0, 192, 16):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[k : k + 16]), y[k : k + 16]).backward()
            optimizer.step()
    return float((net(x).argmax(1) == y).float().mean())


def test_a_network_learns_through_it_as_through_the_simulated_bench(bench):
    through_emulation = learned(bench)
    with simulated_bench("quiet", 1, black_level=0.0, laser={"power_mw": 5.0}) as simulated:
        through_simulation = learned(simulated)
    assert through_emulation > 0.8
    assert through_emulation == pytest.approx(through_simulation, abs=0.08)


def test_the_commands_of_a_user_work_on_it(bench_path, tmp_path):
    opu = [sys.executable, "-c", "import sys; from tools.main import main; sys.exit(main())"]
    for command in (
        f"doctor --bench {bench_path} --stability-s 1",
        f"calibrate --bench {bench_path} --inputs 10 --out c.h5",
        f"acquire --bench {bench_path} --patterns random --frames 20 --out r.h5",
    ):
        done = subprocess.run(
            [*opu, *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_bench_without_a_logbook_is_refused(cobolt, tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text(cobolt.bench_file().replace(cobolt.log.as_posix(), "missing.jsonl"))
    with pytest.raises(OpuError, match="opu emulate"):
        open_bench(path)
