"""Calibration files under attack: a thousand kinds of damage, killed and competing writers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from calibration.calibration_file import Calibration
from calibration.carrier import Carrier
from calibration.errors import CalibrationFileError
from calibration.quality import Quality
from opu_driver.camera import CameraSettings, Region
from opu_driver.device import Identity
from opu_driver.layout import Layout

ROOT = Path(__file__).parents[2]
MODES, INPUTS = 36, 5

Damage = Callable[[bytearray, np.random.Generator], bytes]


def small_calibration(seed: int = 1) -> Calibration:
    rng = np.random.default_rng(seed)

    def fields(*shape: int) -> Any:
        values = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        return values.astype(np.complex64)

    return Calibration(
        identities={
            kind: Identity("Virtual", kind, "1") for kind in ("modulator", "camera", "laser")
        },
        settings=CameraSettings(30.0, Region(0, 0, 24, 24)),
        power_mw=10.0,
        relative_exposure=300.0,
        layout=Layout.fit(INPUTS, (64, 64)),
        carrier=Carrier(0.27, 0.25, 1e-5, 2e-5, 0.12, 1e-4),
        decimation=4,
        seed=3,
        software="0.1.0",
        T=fields(MODES, INPUTS),
        reference=fields(MODES),
        bias=fields(MODES),
        quality=Quality(
            held_out_correlation=0.999,
            held_out_error=0.03,
            split_half=0.9995,
            linearity=0.02,
            snr=1000.0,
            effective_modes=26.0,
            visibility=0.5,
            saturated_fraction=0.0,
            singular_values=np.ones(INPUTS, np.float32),
        ),
        made_at="2024-05-01T12:00:00+00:00",
        expires_at="2999-05-02T12:00:00+00:00",
    )


def resealed(content: bytes) -> bytes:
    """A file of the same content after the first 512 bytes, with a checksum that fits."""
    digest = hashlib.sha256(content[512:]).hexdigest().encode()
    return (b"opu-calibration schema 2 sha256 %s\n" % digest).ljust(512, b"\0") + content[512:]


def flipped(content: bytearray, rng: np.random.Generator) -> bytes:
    for place in rng.integers(0, len(content), rng.integers(1, 9)):
        content[place] ^= 1 << rng.integers(8)
    return bytes(content)


def truncated(content: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(content[: rng.integers(0, len(content))])


def extended(content: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(content) + rng.bytes(int(rng.integers(1, 600)))


def swapped(content: bytearray, rng: np.random.Generator) -> bytes:
    size = 1 << int(rng.integers(4, 10))
    blocks = [content[i : i + size] for i in range(0, len(content), size)]
    one, other = rng.choice(len(blocks), 2, replace=False)
    blocks[one], blocks[other] = blocks[other], blocks[one]
    return b"".join(blocks)


def zeroed(content: bytearray, rng: np.random.Generator) -> bytes:
    size = int(rng.integers(1, 2000))
    first = int(rng.integers(0, len(content) - size))
    content[first : first + size] = bytes(size)
    return bytes(content)


def noise(content: bytearray, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 3 * len(content))))


def headed_noise(content: bytearray, rng: np.random.Generator) -> bytes:
    return resealed(bytes(512) + rng.bytes(int(rng.integers(0, 9000))))


DAMAGES: list[Damage] = [flipped, truncated, extended, swapped, zeroed, noise, headed_noise]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = small_calibration().save(tmp_path_factory.mktemp("whole") / "c.h5")
    return path.read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_a_typed_error(damage: Damage, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.h5"
    rng = np.random.default_rng(11)
    for _ in range(150):  # times seven kinds: a thousand files
        content = damage(bytearray(whole), rng)
        if content == whole:
            continue
        path.write_bytes(content)
        with pytest.raises(CalibrationFileError) as caught:
            Calibration.load(path)
        assert "damaged.h5" in str(caught.value)


def mutations(header: dict[str, Any], rng: np.random.Generator) -> Iterator[str]:
    """The header with one value missing or replaced by one of another kind."""
    wrong = [None, "text", -1, 1e300, [], {}, True, float("nan"), [1, 2], 10**400]
    places: list[tuple[dict[str, Any], str]] = []

    def walk(inner: dict[str, Any]) -> None:
        for key, value in inner.items():
            places.append((inner, key))
            if isinstance(value, dict):
                walk(value)

    walk(header)
    for inner, key in places:
        kept = inner[key]
        for choice in rng.permutation(len(wrong))[:4]:
            inner[key] = wrong[choice]
            yield json.dumps(header)
        del inner[key]
        yield json.dumps(header)
        inner[key] = kept


def test_a_sealed_file_with_another_header_loads_or_is_a_typed_error(
    whole: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "sealed.h5"
    path.write_bytes(whole)
    with h5py.File(path) as file:
        header = json.loads(file.attrs["header"])
    refused = tried = 0
    for text in mutations(header, np.random.default_rng(12)):
        tried += 1
        with h5py.File(path, "r+") as file:
            file.attrs["header"] = text
        path.write_bytes(resealed(path.read_bytes()))
        try:
            Calibration.load(path)
        except CalibrationFileError:
            refused += 1
    # A firmware may be any text.
    assert tried > 200
    assert refused > 0.75 * tried


FOREIGN: list[Callable[[h5py.File], object]] = [
    lambda file: None,
    lambda file: file.create_group("T"),
    lambda file: file.attrs.create("header", b"\xff\xfe"),
    lambda file: file.attrs.create("header", 5),
    lambda file: file.attrs.create("header", np.zeros((3, 3))),
    lambda file: file.attrs.create("header", "[" * 100_000),
    lambda file: file.create_dataset("T", (10**6, 10**6), np.complex64, chunks=(10, 10)),
]


@pytest.mark.parametrize("fill", FOREIGN)
def test_a_foreign_file_is_a_typed_error(
    fill: Callable[[h5py.File], object], tmp_path: Path
) -> None:
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        fill(file)
    with pytest.raises(CalibrationFileError, match="no calibration"):
        Calibration.load(path)
    path.write_bytes(resealed(path.read_bytes()))
    with pytest.raises(CalibrationFileError, match="does not hold what schema 2 asks for"):
        Calibration.load(path)


HUGE: list[tuple[str, dict[str, Any]]] = [
    ("T", {"shape": (MODES, INPUTS), "chunks": (4, 4)}),
    ("reference", {"shape": (MODES,), "chunks": (4,)}),
    ("singular_values", {"shape": (10**12,), "chunks": (1000,)}),
    ("singular_values", {"shape": (10**12,)}),
]


@pytest.mark.parametrize(("name", "made"), HUGE)
def test_parts_that_are_not_there_are_not_believed(
    whole: bytes, tmp_path: Path, name: str, made: dict[str, Any]
) -> None:
    path = tmp_path / "empty.h5"
    path.write_bytes(whole)
    kind = np.float32 if name == "singular_values" else np.complex64
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, dtype=kind, **made)  # with no storage behind it
    path.write_bytes(resealed(path.read_bytes()))
    with pytest.raises(CalibrationFileError, match=f"{name} does not lie in one piece"):
        Calibration.load(path)


def test_a_folder_or_a_pipe_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(CalibrationFileError):
        Calibration.load(tmp_path)
    with pytest.raises(CalibrationFileError):
        Calibration.load(tmp_path / ("x" * 300))


def test_of_many_writers_one_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "c.h5"
    makers = [small_calibration(seed) for seed in range(8)]
    start = threading.Barrier(len(makers))
    refused: list[CalibrationFileError] = []

    def write(made: Calibration) -> None:
        start.wait()
        try:
            made.save(path)
        except CalibrationFileError as error:
            refused.append(error)

    threads = [threading.Thread(target=write, args=(made,)) for made in makers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == len(makers) - 1
    assert all("never overwritten" in str(error) for error in refused)
    assert Calibration.load(path).fingerprint() in {made.fingerprint() for made in makers}
    assert list(tmp_path.iterdir()) == [path]


SAVING = f"""
    import os, resource, signal, sys, time
    sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT)!r}]
    from pathlib import Path
    from test_calibration_file_faults import small_calibration
    from calibration.calibration_file import Calibration
    from calibration.errors import CalibrationFileError

    folder = Path(sys.argv[1])
    made = small_calibration()
"""

posix = pytest.mark.skipif(os.name != "posix", reason="fork and limits on files are POSIX's")


def in_a_process(script: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SAVING) + textwrap.dedent(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@posix
def test_a_killed_writer_leaves_a_whole_file_or_none(tmp_path: Path) -> None:
    in_a_process(
        """
        began = time.perf_counter()
        made.save(folder / "earlier.h5")
        whole_s = time.perf_counter() - began
        for k in range(60):
            child = os.fork()
            if not child:
                made.save(folder / f"c{k}.h5")
                os._exit(0)
            time.sleep(1.2 * whole_s * k / 60)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        """,
        tmp_path,
    )
    named = sorted(tmp_path.glob("[!.]*.h5"))
    assert tmp_path / "earlier.h5" in named
    for path in named:
        assert Calibration.load(path).fingerprint() == small_calibration().fingerprint()


@posix
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    told = in_a_process(
        """
        made.save(folder / "earlier.h5")
        size = (folder / "earlier.h5").stat().st_size
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        for limit in range(0, size, max(size // 40, 1)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                made.save(folder / "later.h5")
            except CalibrationFileError as error:
                assert "has room" in str(error)
                print("refused")
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert [p.name for p in folder.iterdir()] == ["earlier.h5"], limit
            Calibration.load(folder / "earlier.h5")
        made.save(folder / "later.h5")
        Calibration.load(folder / "later.h5")
        """,
        tmp_path,
    )
    assert told.count("refused") >= 40
