from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from training.datasets import load
from training.datasets.dataset import Dataset, Examples
from training.datasets.download import KnownFile, cache_folder, download
from training.datasets.files import locate
from training.datasets.idx import read_idx
from training.datasets.image_batches import ImageBatches, Scaling
from training.datasets.mnist import MNIST
from training.errors import DatasetError, SettingsError

CONTENT = bytes(range(256)) * 2000
FILE = KnownFile("thing.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Server(http.server.ThreadingHTTPServer):
    """Serves one file, with or without ranges; may hang up after some bytes."""

    content = CONTENT
    ranges = True
    status = 200
    hang_up_after: int | None = None
    hang_up_always = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/files"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.hang_up_after is not None:
            body = body[: self.server.hang_up_after]
            if not self.server.hang_up_always:
                self.server.hang_up_after = None
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def test_downloads_whole(server: Server, tmp_path: Path) -> None:
    path = download(FILE, server.url, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["thing.gz"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_off_transfer_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.hang_up_after, server.ranges = 100_000, ranges
    assert download(FILE, server.url, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]


def test_a_later_call_goes_on_where_the_last_one_gave_up(server: Server, tmp_path: Path) -> None:
    server.hang_up_after, server.hang_up_always = 1000, True
    with pytest.raises(DatasetError, match=f"4000 of {len(CONTENT)} bytes.*Run again"):
        download(FILE, server.url, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thing.gz.part"]
    server.hang_up_after = None
    assert download(FILE, server.url, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=4000-"


@pytest.mark.parametrize(
    ("content", "message"),
    [(CONTENT[:-1] + b"x", "SHA-256 .* expected"), (CONTENT + b"x", "bytes, expected")],
)
def test_other_content_is_refused_and_removed(
    server: Server, tmp_path: Path, content: bytes, message: str
) -> None:
    server.content = content
    with pytest.raises(DatasetError, match=message):
        download(FILE, server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_not_repeated(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DatasetError, match=r"404 .*Put thing\.gz into"):
        download(FILE, server.url, tmp_path)
    assert server.asked == [None]


def test_no_server_says_where_to_put_which_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPU_DATA", str(tmp_path / "data"))
    with Server() as closed:
        pass
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte\.gz, .* OPU_DATA"):
        locate(MNIST.files[0], "mnist", closed.url, MNIST.files)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written"):
        download(FILE, server.url, tmp_path / "file")


def test_looked_for_in_the_data_folder_then_the_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPU_DATA", str(tmp_path / "data"))
    asked = FILE, "things", server.url, (FILE,)
    cached = cache_folder() / "things" / FILE.name
    assert locate(*asked) == cached
    assert locate(*asked) == cached
    assert len(server.asked) == 1
    mine = tmp_path / "data" / "things" / FILE.name
    mine.parent.mkdir(parents=True)
    mine.write_bytes(CONTENT)
    assert locate(*asked) == mine
    mine.write_bytes(CONTENT[:-5])
    with pytest.raises(DatasetError, match=f"{FILE.name} has 511995 bytes, expected 512000"):
        locate(*asked)


def idx(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


def test_idx_is_read(tmp_path: Path) -> None:
    path = idx(tmp_path / "a.gz", b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + b"abcdef")
    assert read_idx(path, (2, 3)).tobytes() == b"abcdef"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "another file"),
        (b"\0\0\x08\x01" + b"\0\0\0\x02" + b"\0\0\0\x03" + b"abcdef", "another file"),
        (b"\0\0\x08\x02" + b"\0\0\0\x03" + b"\0\0\0\x02" + b"abcdef", r"sizes \(3, 2\)"),
        (b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + b"abcde", "17 bytes, expected 18"),
    ],
)
def test_idx_of_something_else_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_idx(idx(tmp_path / "a.gz", content), (2, 3))


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: b"PK" + raw])
def test_damaged_gzip_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = idx(tmp_path / "a.gz", bytes(1000))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match="damaged or cut off"):
        read_idx(path, (2, 3))


def test_digits_are_built_in() -> None:
    digits = load("digits")
    assert digits.train.images.shape == (1437, 8, 8)
    assert len(digits.test) == 360
    assert float(digits.train.images.min()) == 0
    assert float(digits.train.images.max()) == 1
    assert set(digits.train.labels.tolist()) == set(range(10))
    assert torch.equal(digits.test.labels, load("digits").test.labels)


@pytest.mark.parametrize(("name", "mean"), [("mnist", 0.1307), ("fashion-mnist", 0.2860)])
def test_official_files(name: str, mean: float) -> None:
    if "OPU_DATA" not in os.environ:
        pytest.skip("OPU_DATA is not set: no folder with MNIST and Fashion-MNIST")
    data = load(name)
    assert data.train.images.shape == (60000, 28, 28)
    assert data.test.images.shape == (10000, 28, 28)
    assert float(data.train.images.mean()) == pytest.approx(mean, abs=1e-4)
    assert torch.bincount(data.test.labels).min() > 890


def test_unknown_data_sets_are_named() -> None:
    with pytest.raises(DatasetError, match="'cifar': choose one of digits, mnist"):
        load("cifar")


def toy(n: int = 11) -> Dataset:
    images = torch.arange(n * 12, dtype=torch.float32).view(n, 3, 4) / (n * 12)
    return Dataset("toy", n, Examples(images, torch.arange(n)), Examples(images, torch.arange(n)))


def test_validation_is_carved_from_training_by_seed() -> None:
    train, validation = toy().split(3, seed=1)
    assert (len(train), len(validation)) == (8, 3)
    assert sorted([*train.labels.tolist(), *validation.labels.tolist()]) == list(range(11))
    assert toy().split(3, seed=1)[1].labels.tolist() == validation.labels.tolist()
    assert toy().split(3, seed=2)[1].labels.tolist() != validation.labels.tolist()
    for n in (-1, 11):
        with pytest.raises(DatasetError, match="at least one"):
            toy().split(n, seed=0)


def test_each_epoch_sees_everything_once_in_another_order() -> None:
    batches = ImageBatches(toy().train, 4, 0, Scaling())
    assert batches.per_epoch == 3
    epochs = [[int(y) for s in range(3) for y in batches.at(3 * e + s).targets] for e in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(11))
    assert epochs[0] != epochs[1]


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    first, second = (ImageBatches(toy().train, 4, 5, Scaling(), max_shift=1) for _ in range(2))
    expected = [first.at(step) for step in range(7)]
    for step in (6, 2, 4, 0):
        batch = second.at(step)
        assert torch.equal(batch.inputs[0], expected[step].inputs[0])
        assert torch.equal(batch.targets, expected[step].targets)
    other = ImageBatches(toy().train, 4, 6, Scaling(), max_shift=1)
    assert not torch.equal(other.at(0).targets, expected[0].targets)


def test_shifts_move_the_image_over_black() -> None:
    images = torch.zeros(1, 5, 5)
    images[0, 2, 2] = 1.0
    scaling = Scaling(0.2, 0.5)
    batches = ImageBatches(Examples(images, torch.zeros(1, dtype=torch.int64)), 1, 0, scaling, 1)
    places = set()
    for step in range(60):
        image = batches.at(step).inputs[0].view(5, 5)
        (row, column), *more = (image > 0).nonzero().tolist()
        assert not more
        assert np.allclose(image[image <= 0], -0.4)
        places.add((row, column))
    assert places == {(r, c) for r in (1, 2, 3) for c in (1, 2, 3)}


def test_standardised_inputs() -> None:
    examples = load("digits").train
    inputs = Scaling.standardising(examples).inputs(examples.images)
    assert inputs.shape == (1437, 64)
    assert float(inputs.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inputs.std()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 12}, {"max_shift": 3}])
def test_impossible_batches_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="Batch size|Shifts"):
        ImageBatches(toy().train, **({"batch_size": 4, "seed": 0, "scaling": Scaling()} | options))  # type: ignore[arg-type]
