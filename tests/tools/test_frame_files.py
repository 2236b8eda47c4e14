import h5py
import numpy as np
import pytest
from PIL import Image

from calibration.speckle import Light, grain_size, likeness
from opu_driver import simulated_bench
from tools.frame_files import FrameFileError, open_frames
from tools.frame_view import FrameView


@pytest.fixture(scope="module")
def frames():
    with simulated_bench("quiet", seed=2) as bench:
        one = bench.layout(16).render(np.eye(16, dtype=np.uint8)[:1] | 1)
        return bench.expose(np.repeat(one, 6, axis=0))


def written(kind, frames, folder):
    path = folder / f"frames.{kind}"
    pages = [Image.fromarray(frame) for frame in frames]
    if kind == "tif":
        pages[0].save(path, save_all=True, append_images=pages[1:])
    elif kind == "npy":
        np.save(path, frames)
    elif kind == "npz":
        np.savez(path, frames=frames, other=np.zeros(3))
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["entry/data/frames"] = frames
            file["entry/gain"] = np.ones((2, 2))
    else:
        path.mkdir()
        for k, page in enumerate(pages):
            page.save(path / f"{k:03d}.png")
    return path


@pytest.mark.parametrize("kind", ["tif", "npy", "npz", "h5", "folder"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_kind_of_file_gives_the_same_frames(frames, tmp_path, kind, dtype):
    path = written(kind, frames.astype(dtype), tmp_path)
    with open_frames(path) as stack:
        np.testing.assert_array_equal(stack.frames, frames)
        np.testing.assert_array_equal(stack.frames[1:3], frames[1:3])
        assert stack.frames.dtype == dtype


def test_what_holds_no_frames_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "text.txt").write_text("no image")
    np.save(tmp_path / "flat.npy", np.ones(4))
    Image.fromarray(np.eye(3, dtype=np.uint8)[None]).save(tmp_path / "colour.png")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "broken.h5").write_text("no HDF5")
    for name in ("empty", "text.tif", "text.txt", "flat.npy", "colour.png", "other.h5",
                 "broken.h5", "missing.tif"):  # fmt: skip
        with pytest.raises(FrameFileError, match=name), open_frames(tmp_path / name):
            pass


def test_a_file_that_was_cut_off_is_refused_without_a_warning(frames, tmp_path, recwarn):
    path = written("tif", frames, tmp_path)
    whole = path.read_bytes()
    for kept in np.linspace(4, len(whole) - 1000, 20).astype(int):
        path.write_bytes(whole[:kept])
        with pytest.raises(FrameFileError, match="frames.tif"), open_frames(path) as stack:
            np.asarray(stack.frames)
    assert not recwarn.list


def test_steady_frames_are_found_steady(frames, tmp_path):
    with open_frames(written("npy", frames, tmp_path)) as stack:
        view = FrameView.of(stack)
    assert view.likeness[-1] > 0.9
    assert view.steady is not None
    assert np.abs(view.steady.carrier).max() < 1e-4
    assert view.grain is not None
    assert view.grain[0] == pytest.approx(view.carrier.grain, rel=0.1)
    assert 0 < view.grain[1] < 0.5


def other(kind, frames, folder):
    """Frames as other programs write them."""
    path = folder / f"frames.{kind}"
    if kind == "h5":
        with h5py.File(path, "w") as file:
            file["exchange/data"] = frames[:, None]
            file["exchange/theta"] = np.zeros(3)
    elif kind == "zarr":
        zarr = pytest.importorskip("zarr", reason="zarr is not installed")
        zarr.create_array(str(path), data=frames)
    elif kind == "png":
        Image.fromarray(np.repeat(frames[0][:, :, None], 3, axis=2)).save(path)
    else:
        Image.fromarray(frames[0]).convert("P").save(path)
    return path


@pytest.mark.parametrize("kind", ["h5", "zarr", "png", "tif"])
def test_what_other_programs_make_of_frames_is_read(frames, tmp_path, kind):
    with open_frames(other(kind, frames, tmp_path)) as stack:
        np.testing.assert_array_equal(stack.frames, frames if len(stack) > 1 else frames[:1])


def test_a_large_file_is_read_frame_by_frame(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (100_000, 2048, 2048), np.uint16, chunks=(1, 2048, 2048))
    with open_frames(tmp_path / "a.h5") as stack:  # 800 GB, of which nothing is there
        assert stack.frames[99_999].shape == (2048, 2048)


def test_a_frame_of_another_size_is_told(tmp_path):
    for k, side in enumerate((40, 40, 41)):
        Image.fromarray(np.zeros((side, 40), np.uint8)).save(tmp_path / f"{k}.png")
    with open_frames(tmp_path) as stack, pytest.raises(FrameFileError, match="Frame 2"):
        np.asarray(stack.frames)


def test_a_shift_of_phase_and_carrier_is_seen(frames):
    from calibration.carrier import find_carrier
    from calibration.demodulation import Demodulator
    from calibration.speckle import Steadiness

    carrier = find_carrier(frames, saturation_level=255)
    demodulate = Demodulator(frames.shape[1:], carrier)
    fields = np.repeat(demodulate(frames[:1]), 3, axis=0)
    row = demodulate.decimation * np.arange(fields.shape[1])[:, None]
    fields[1] *= np.exp(0.7j)
    fields[2] *= np.exp(2j * np.pi * 2e-4 * row)

    class Known:
        decimation = demodulate.decimation

        def __call__(self, _):
            return fields

    steady = Steadiness.of(frames[:3], Known(), black_level=0.0)
    assert steady.phase_rad[1] == pytest.approx(0.7, abs=1e-5)
    np.testing.assert_allclose(steady.carrier, [[0, 0], [0, 0], [2e-4, 0]], atol=1e-7)
    assert steady.fidelity[1] == pytest.approx(1.0, abs=1e-5)


def test_contrast_of_known_speckle_is_one():
    rng = np.random.default_rng(3)
    frames = rng.exponential(100.0, (4, 256, 256))
    light = Light.of(frames + 10, black_level=10.0, saturation_level=None)
    assert light.contrast == pytest.approx(1.0, abs=0.01)
    assert light.power == pytest.approx(100.0, rel=0.02)
    assert grain_size(frames) is None
    np.testing.assert_allclose(likeness(frames)[1:], 0.0, atol=0.02)
