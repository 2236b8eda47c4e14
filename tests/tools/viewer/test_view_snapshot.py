import numpy as np
import pytest
from PIL import Image

from opu_driver.errors import InputError, RecordingError
from tools.output_path import OutputError
from tools.viewer.snapshot import save_snapshot


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("name", ["a.npy", "a.tif", "A.TIFF"])
def test_grey_values_come_back(tmp_path, kind, name):
    frame = np.random.default_rng(0).uniform(0, 250, (17, 33)).astype(kind)
    if kind is np.uint16:
        frame *= 200
    path = tmp_path / name
    save_snapshot(frame, path)
    back = np.load(path) if name == "a.npy" else np.asarray(Image.open(path))
    np.testing.assert_array_equal(back, frame)
    assert back.dtype == kind


def test_nothing_is_overwritten_or_written_where_it_cannot(tmp_path):
    frame = np.zeros((2, 2), np.uint8)
    (tmp_path / "a.npy").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        save_snapshot(frame, tmp_path / "a.npy")
    assert (tmp_path / "a.npy").read_text() == "mine"
    with pytest.raises(OutputError, match="no folder"):
        save_snapshot(frame, tmp_path / "no" / "a.npy")
    with pytest.raises(RecordingError, match=r"a\.jpg.*ends in"):
        save_snapshot(frame, tmp_path / "a.jpg")
    assert issubclass(OutputError, InputError)
