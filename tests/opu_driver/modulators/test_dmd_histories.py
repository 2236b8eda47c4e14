"""Whatever was done to a DMD before: its mirrors show what they are told, in order, all of it."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opu_driver.emulators import dlpc900 as emulated_dlpc900
from opu_driver.emulators.alp import EmulatedALP
from opu_driver.emulators.dlpc900 import EmulatedDLPC900
from opu_driver.modulators import dlpc900
from opu_driver.modulators.alp import AlpDMD
from opu_driver.modulators.dlpc900 import Dlpc900DMD


@pytest.fixture(params=["alp", "dlpc900"], scope="module")
def setup(request):
    with ExitStack() as resources:
        if request.param == "alp":
            if not any(map(shutil.which, ("cc", "gcc", "clang"))):
                pytest.skip("the emulated ALP library needs a C compiler, and there is none")
            emulated = resources.enter_context(EmulatedALP((4, 24), memory=24))
            dmd = AlpDMD(library=str(emulated.library))
        else:
            patch = resources.enter_context(pytest.MonkeyPatch.context())
            patch.setitem(dlpc900._DMDS, 1, replace(dlpc900._DMDS[1], shape=(4, 24)))
            patch.setitem(emulated_dlpc900._SHAPES, 1, (4, 24))
            emulated = EmulatedDLPC900()
            resources.enter_context(emulated.installed())
            dmd = Dlpc900DMD()
        yield emulated, resources.enter_context(dmd)


class History:
    """What is done to a DMD, one thing after the other, each looked at on the mirrors."""

    def __init__(self, emulated, dmd):
        self.emulated = emulated
        self.dmd = dmd
        self.seed = 0
        self.loaded = None

    def load(self, n):
        self.seed += 1
        shape = (n, *self.dmd.pattern_shape)
        patterns = np.random.default_rng(self.seed).integers(0, 256, shape, np.uint8)
        self.dmd.load(patterns)
        self.loaded = patterns

    def see(self, patterns):
        first = self.emulated.count - len(patterns)
        mirrors = [self.emulated.shown(first + i).mirrors for i in range(len(patterns))]
        np.testing.assert_array_equal(mirrors, patterns)

    def show(self, n):
        self.load(n)
        self.again(n)

    def again(self, n):
        if self.loaded is None:
            self.load(n)
        self.dmd.start(self.dmd.max_rate_hz)
        assert self.dmd.wait(5.0) == len(self.loaded)
        self.see(self.loaded)

    def load_beside(self, n):
        self.load(n)
        before = self.loaded
        self.dmd.start(5000.0)
        if self.dmd.loads_while_showing:
            self.load(max(1, n // 2))
        assert self.dmd.wait(5.0) == n
        self.see(before)

    def on_edges(self, n):
        self.load(n)
        self.dmd.start_on_edges()
        before = self.emulated.count
        while self.emulated.count < before + n:  # edges that come too early are lost
            self.emulated.edge()
        assert self.dmd.wait(5.0) == n
        self.see(self.loaded)

    def steps(self, n):
        self.load(n)
        for i in range(max(1, n // 2)):
            assert self.dmd.step() == i
            np.testing.assert_array_equal(self.emulated.mirrors, self.loaded[i])

    def cut(self, n):
        self.load(n)
        self.dmd.start(2.0)
        self.dmd.stop()
        assert not self.emulated.mirrors.any()
        assert self.dmd.wait(1.0) == 0

    def reopen(self, n):
        self.load(n)
        self.dmd.start(2.0)
        self.dmd.close()
        self.dmd.open()
        self.loaded = None


events = st.lists(
    st.tuples(
        st.sampled_from(["show", "again", "load_beside", "on_edges", "steps", "cut", "reopen"]),
        st.integers(1, 12),
    ),
    min_size=2,
    max_size=6,
)


@given(events)
@settings(max_examples=25)
def test_the_mirrors_follow(setup, events):
    history = History(*setup)
    for name, n in events:
        getattr(history, name)(n)
    history.show(7)
