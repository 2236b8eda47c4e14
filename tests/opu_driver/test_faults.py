"""What goes wrong on a bench while its frames are put on disk, and what is left afterwards.

Each fault is detected and named; the frames that were proven before it lie on disk; the laser
itself says that it is dark while the bench is still open; and the same bench works again in the
same process. All this is so on the emulated bench, through the real drivers, and on the simulated
one, where the fault exists there.
"""

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from opu_driver import open_bench, simulated_bench
from opu_driver.errors import (
    DeviceError,
    DeviceLostError,
    FrameMismatchError,
    LaserSafetyError,
    OpuError,
    RecordingError,
    SaturationError,
)
from opu_driver.exposure_log import logged
from opu_driver.recording import Recording, partial_path

PATTERNS = 4
"""Of a sequence; three markers are shown with them."""

SEQUENCE = PATTERNS + 3

BEFORE = 2
"""Sequences that are recorded before a fault strikes."""

DARK_WITHIN_S = 1.0


class Rehearsal:
    """A bench that stays open from one fault to the next, but for what a fault asks for."""

    def __init__(self, bench):
        self.bench = bench
        self.camera, self.optics = bench.camera, bench._optics
        self.repairs = ExitStack()
        self.sound = True
        self.growing = None
        self._open = ExitStack()
        self.open()

    def open(self):
        self._open.enter_context(self.bench)

    def close(self):
        self._open.close()

    def end(self):
        self.repairs.close()
        self.close()

    def mend(self):
        """What a test that failed has left behind is no matter of the next one."""
        if not self.sound:
            self.end()
            self.open()
            self.sound = True

    def patterns(self, seed):
        bits = np.random.default_rng(seed).integers(0, 2, (PATTERNS, 10), np.uint8)
        return self.bench.layout(10).render(bits)

    def overexpose(self):
        """The exposure becomes a hundred times too long."""
        longer = replace(self.bench.settings, exposure_us=100 * self.bench.settings.exposure_us)
        self.bench.configure(longer)

    def fill_disk(self):
        """The recording cannot grow any more: a limit on files stands for the full disk."""
        resource = pytest.importorskip("resource", reason="there is no limit on files to set")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.growing.stat().st_size, hard))
        self.repairs.callback(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))


class Emulated(Rehearsal):
    """Mirrors of an ALP library, frames of pylon, the light of a Cobolt."""

    def __init__(self, path, cobolt):
        self.cobolt = cobolt
        super().__init__(open_bench(path))
        self.dmd, self.feed = self.optics.dmd, self.optics.feed

    @property
    def output_mw(self):
        return float(self.cobolt.by_hand("output"))

    def by_hand(self, act, *repairs):
        self.cobolt.by_hand(act)
        for repair in reversed(repairs):
            self.repairs.callback(self.cobolt.by_hand, repair)

    def delay_a_frame(self):
        """The third edge from now exposes the camera when nobody waits for it any more."""
        expose, edges = self.feed.expose, itertools.count(1)
        enough = threading.Event()

        def late(camera, frame):
            if next(edges) == 3:
                enough.wait(20.0)
            return expose(camera, frame)

        self.feed.expose = late
        self.repairs.callback(delattr, self.feed, "expose")
        self.repairs.callback(enough.set)

    def spoil_a_frame(self):
        from opu_driver.emulators.pylon import spoil

        spoil(self.camera, 1)

    def unplug_camera(self):
        from opu_driver.emulators.pylon import unplug

        unplug(self.camera)

    def unplug_modulator(self):
        self.dmd.unplug()
        self.repairs.callback(self.dmd.plug)


class Simulated(Rehearsal):
    """Virtual devices in one scene."""

    def __init__(self, faults):
        super().__init__(simulated_bench("quiet", seed=1, faults=faults))

    @property
    def output_mw(self):
        return self.bench.laser.output_mw

    def open_interlock(self):
        self.bench.laser.open_enclosure()
        self.repairs.callback(self.bench.laser.close_enclosure)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and how it is told.

    Attributes:
        kind: The error that it is.
        words: What the error says, a regular expression.
        emulated: How it is caused on the emulated bench, between two sequences; None where a
            device of it cannot have it.
        simulated: The same on the simulated bench.
        planned: Faults of the scene, the other way to cause it there.
    """

    kind: type[OpuError]
    words: str
    emulated: Callable[[Any], object] | None = None
    simulated: Callable[[Any], object] | None = None
    planned: dict[str, Any] = field(default_factory=dict)


AT = BEFORE * SEQUENCE  # the exposure, and the edge, with which the sequence that fails begins

FAULTS = {
    "lost trigger": Fault(
        FrameMismatchError,
        "6 frames for 7 patterns.*trigger line",
        emulated=lambda on: on.dmd.fault("lost edge", 3),
        planned={"dropped_triggers": [AT + 3]},
    ),
    "doubled trigger": Fault(
        FrameMismatchError,
        "markers around the sequence|do not follow the modulator's clock",
        emulated=lambda on: on.dmd.fault("doubled picture", 3),
        planned={"doubled_triggers": [AT + 3]},
    ),
    "off-by-one": Fault(
        FrameMismatchError,
        "markers around the sequence.*slipped",
        emulated=lambda on: on.dmd.fault("dropped picture", SEQUENCE - 1),
        planned={"stale_frames": [AT + 1]},
    ),
    "late frame": Fault(
        FrameMismatchError,
        "2 frames for 7 patterns",
        emulated=Emulated.delay_a_frame,
        planned={"late_frames": [AT + 2]},
    ),
    "incomplete buffer": Fault(  # frames of the virtual camera cross no wire
        FrameMismatchError,
        "frames for 7 patterns",
        emulated=Emulated.spoil_a_frame,
    ),
    "unplugged camera": Fault(
        DeviceLostError,
        "camera",
        emulated=Emulated.unplug_camera,
        planned={"camera_lost_at": AT + 1},
    ),
    "unplugged modulator": Fault(
        DeviceLostError,
        "(?i)alp.*unplugged",
        emulated=Emulated.unplug_modulator,
    ),
    "full memory of the modulator": Fault(
        DeviceError,
        "memory is full",
        emulated=lambda on: on.dmd.fail("AlpSeqAlloc", 1007),
        planned={"refused_loads": [BEFORE]},
    ),
    "serial timeout": Fault(  # a virtual laser has no line
        DeviceLostError,
        "serial port.*nothing came back",
        emulated=lambda on: on.by_hand("disturb silent silent silent", "settle"),
    ),
    "garbage answers": Fault(
        DeviceError,
        "serial port.*came back",
        emulated=lambda on: on.by_hand("disturb noisy noisy noisy noisy", "settle"),
    ),
    "opened interlock": Fault(
        LaserSafetyError,
        "interlock",
        emulated=lambda on: on.by_hand("interlock open", "interlock closed", "key off", "key on"),
        simulated=Simulated.open_interlock,
    ),
    "saturation": Fault(
        SaturationError,
        "pixels are full",
        emulated=Emulated.overexpose,
        simulated=Simulated.overexpose,
    ),
    "full disk": Fault(
        RecordingError,
        "cannot be written",
        emulated=Emulated.fill_disk,
        simulated=Simulated.fill_disk,
    ),
}


def needs_libraries():
    for module, extra in (("serial", "serial"), ("pypylon", "pylon")):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'opu[{extra}]'")


@pytest.fixture(scope="module")
def opened(start_cobolt, tmp_path_factory):
    needs_libraries()
    folder = tmp_path_factory.mktemp("emulated")
    cobolt = start_cobolt(folder)
    path = folder / "bench.toml"
    path.write_text(cobolt.bench_file())
    rehearsal = Emulated(path, cobolt)
    yield rehearsal
    rehearsal.end()


@pytest.fixture
def emulated(opened):
    yield opened
    opened.mend()


def recorded(on, path, strike):
    """Record without end, with a fault after `BEFORE` sequences; the proven frames, and the error.

    What the laser emits is asked while the bench is open, before and after the fault.
    """
    kept = []
    on.growing = partial_path(path)
    with pytest.raises(OpuError) as told, logged(on.bench, path) as log:
        for sequence in on.bench.stream(map(on.patterns, range(60))):
            log.settle()
            kept.append(sequence.frames)
            if len(kept) == BEFORE:
                assert on.output_mw > 0
                strike()
    assert on.bench.laser.is_open
    deadline = time.monotonic() + DARK_WITHIN_S
    while on.output_mw > 0:
        assert time.monotonic() < deadline, "there is light after the error"
        time.sleep(0.01)
    return np.concatenate(kept), told


def assert_survived(on, fault, strike, path):
    on.sound = False
    kept, told = recorded(on, path, strike)
    assert isinstance(told.value, fault.kind), repr(told.value)
    assert told.match(fault.words)

    on.repairs.close()
    with Recording(partial_path(path)) as recording:
        assert not recording.complete
        np.testing.assert_array_equal(recording.frames(), kept)
    assert len(kept) >= BEFORE * PATTERNS

    on.close()
    assert on.output_mw == 0
    on.open()
    again = np.concatenate(
        [sequence.frames for sequence in on.bench.stream(map(on.patterns, range(BEFORE)))]
    )
    assert alike(again, kept[: len(again)])
    on.sound = True


def alike(frames, others):
    """Whether each frame is most like the one of the others that has its place."""
    a, b = (x.reshape(len(x), -1).astype(float) for x in (frames, others))
    found = np.corrcoef(a, b)[: len(a), len(a) :].argmax(axis=1)
    return bool((found == np.arange(len(a))).all())


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.emulated])
def test_a_fault_of_the_emulated_bench(emulated, tmp_path, name):
    fault = FAULTS[name]
    assert_survived(emulated, fault, lambda: fault.emulated(emulated), tmp_path / "run.h5")
    emulated.bench.darken()
    assert all(emission.end_s is not None for emission in emulated.cobolt.emissions)


@pytest.mark.parametrize(
    "name", [name for name, fault in FAULTS.items() if fault.simulated or fault.planned]
)
def test_a_fault_of_the_simulated_bench(tmp_path, name):
    fault = FAULTS[name]
    on = Simulated(fault.planned)
    try:
        strike = fault.simulated or (lambda on: None)
        assert_survived(on, fault, lambda: strike(on), tmp_path / "run.h5")
    finally:
        on.end()


def test_a_laser_that_nobody_reaches_may_shine_on_and_who_can_darken_it_is_told(
    start_cobolt, tmp_path
):
    needs_libraries()
    cobolt = start_cobolt(tmp_path)
    path = tmp_path / "bench.toml"
    path.write_text(cobolt.bench_file())
    bench = open_bench(path)
    with pytest.raises(DeviceLostError, match="may still emit: turn its key off"), bench:
        bench.expose(bench.layout(4).all_on())
        cobolt.by_hand("unplug")
        bench.expose(bench.layout(4).all_on())
    assert cobolt.by_hand("output") == "5"
    for act in ("key off", "plug in", "key on"):
        cobolt.by_hand(act)
    with bench:
        assert cobolt.by_hand("output") == "0"
        assert len(bench.expose(bench.layout(4).all_on())) == 1
