import json
import sys

import numpy as np
import pytest
from PIL import Image

from opu_driver import simulated_bench
from opu_driver.errors import PatternError
from opu_driver.recording import Recording, record
from tools.pattern_choice import pattern_source


@pytest.fixture
def bench():
    with simulated_bench("quiet", modulator={"shape": [48, 64]}) as opened:
        yield opened


def mirrors(bench, name, inputs=16, **how):
    """The mirrors of the patterns of a source, uint8 `[pattern, row, column]`."""
    source = pattern_source(str(name), inputs, seed=how.get("seed", 0), frames=how.get("frames"))
    return np.unpackbits(source.shown_on(bench), axis=2)


@pytest.mark.parametrize("inputs", [12, 16, 15])
def test_neighbours_on_a_checkerboard_differ(bench, inputs):
    rows, columns = bench.layout(inputs).grid
    height, width = bench.layout(inputs).macropixel
    first, second = mirrors(bench, "checkerboard", inputs)[:, ::height, ::width][:, :rows, :columns]
    assert (first[1:] != first[:-1]).all()
    assert (first[:, 1:] != first[:, :-1]).all()
    np.testing.assert_array_equal(second, 1 - first)


@pytest.mark.parametrize("kind", ["png", "tif", "npy"])
def test_images_of_all_mirrors_are_shown_as_they_are(bench, tmp_path, kind):
    image = np.random.default_rng(1).integers(0, 2, (48, 64), np.uint8)
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, image[None])
    else:
        Image.fromarray(255 * image).save(path)
    np.testing.assert_array_equal(mirrors(bench, path), image[None])


def test_images_of_macropixels_are_drawn_large(bench, tmp_path):
    grid = bench.layout(12).grid
    images = np.random.default_rng(2).integers(0, 2, (3, *grid), np.uint8)
    folder = tmp_path / "images"
    folder.mkdir()
    for k, image in enumerate(images):
        Image.fromarray(255 * image).save(folder / f"{k}.png")
    expected = bench.layout(12).render(images.reshape(3, -1))
    np.testing.assert_array_equal(mirrors(bench, folder), np.unpackbits(expected, axis=2))


@pytest.mark.parametrize(
    ("shape", "top", "told"),
    [((48, 64), 128, "other values than 0 and 1 or 255"), ((2, 6), 1, "lie on it as")],
)
def test_images_that_cannot_be_shown_are_refused(bench, tmp_path, shape, top, told):
    np.save(tmp_path / "a.npy", np.full((1, *shape), top, np.uint8))
    with pytest.raises(PatternError, match=told):
        mirrors(bench, tmp_path / "a.npy")


def test_a_phase_modulator_shows_the_levels_of_an_image(tmp_path):
    image = np.random.default_rng(3).integers(0, 256, (1, 64, 64)).astype(np.uint8)
    np.save(tmp_path / "a.npy", image)
    shape = {"driver": "virtual-slm", "shape": [64, 64]}
    with simulated_bench("quiet", modulator=shape) as bench:
        source = pattern_source(str(tmp_path / "a.npy"), 16, 0, None)
        np.testing.assert_array_equal(source.shown_on(bench), image)


def test_patterns_of_another_recording_come_in_its_order(bench, tmp_path):
    patterns = bench.layout(16).render(np.eye(16, dtype=np.uint8)[[4, 2, 7]])
    over_and_over = record(bench, patterns, 5, tmp_path / "a.h5")
    order = patterns[[0, 1, 0, 2]]
    in_order = record(bench, order, 4, tmp_path / "b.h5")
    source = pattern_source(str(over_and_over), 16, 0, None)
    np.testing.assert_array_equal(source.shown_on(bench, 2), patterns.repeat(2, axis=0))
    assert source.subject.endswith("3 patterns")
    np.testing.assert_array_equal(pattern_source(str(in_order), 1, 0, None).shown_on(bench), order)
    with simulated_bench("quiet") as larger, pytest.raises(PatternError, match="for 48 x 64"):
        source.shown_on(larger)


def test_patterns_of_a_function_are_shown(opu, tmp_path, monkeypatch):
    (tmp_path / "stripes_of_mine.py").write_text(
        "import numpy as np\n\ndef stripes(n):\n    return np.eye(n, dtype=int)[:3]\n\n"
        "def broken(n):\n    raise RuntimeError('boom')\n"
    )
    (tmp_path / "broken_of_mine.py").write_text("1 / 0\n")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    ending = opu("acquire", "--patterns=stripes_of_mine:stripes", "--inputs=9", "--frames=6",
                 "--out=a.h5", "--region=0,0,64,96", "--trigger=software")  # fmt: skip
    assert ending.code == 0, ending.err
    with Recording(tmp_path / "a.h5") as recording:
        assert len(np.unique(recording.shown)) == 3
        assert recording.frames().shape == (6, 64, 96)
        assert recording.conditions.settings.trigger == "software"
    for wrong in ("--patterns=stripes_of_mine:none", "--patterns=nowhere:f", "--region=1,2",
                  "--trigger=free", "--repeats=0", "--average=b.bmp"):  # fmt: skip
        ending = opu("acquire", "--patterns=on", "--frames=1", "--out=b.h5", wrong)
        assert ending.code == 2, ending.err
    for wrong, told in {
        "stripes_of_mine:broken": "broken(64) failed with RuntimeError: boom",
        "broken_of_mine:f": "ZeroDivisionError",
    }.items():
        ending = opu("acquire", f"--patterns={wrong}", "--frames=1", "--out=b.h5")
        assert ending.code == 2
        assert told in ending.err
        assert "fault of the software" not in ending.err
    with pytest.raises(PatternError) as caught:
        pattern_source("stripes_of_mine:broken", 64, 0, None)
    assert str(caught.value.__cause__) == "boom"
    assert not list(tmp_path.glob("b.*"))


def test_a_dropped_trigger_is_counted_and_made_up_for(opu, tmp_path):
    ending = opu("acquire", "--preset=quiet", "--scene=faults.dropped_triggers=[9]", "--frames=20",
                 "--patterns=on", "--out=a.h5", "--json=a.json")  # fmt: skip
    assert ending.code == 0, ending.err
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["frames"] == 20
    assert figures["complete"]
    assert f"{figures['frames_refused']} frames of sequences" in ending.out
    assert figures["frames_refused"] > 0


def test_a_saturated_start_does_not_stand_in_the_way(opu, tmp_path):
    arguments = ("acquire", "--preset=quiet", "--frames=2", "--patterns=on", "--out=a.h5")
    ending = opu(*arguments, "--exposure-us=30000")
    assert ending.code == 1
    assert "a.refused-1.h5" in ending.err
    assert "a.partial.h5" not in ending.err
    assert opu(*arguments).code == 0
