"""Files with known content: verified, and downloaded in pieces that add up."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from training.errors import DatasetError

BLOCK = 1 << 20
ATTEMPTS = 4
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class KnownFile:
    """A file by its name and content.

    Attributes:
        name: File name.
        size: Bytes.
        sha256: Of the whole file, hexadecimal.
    """

    name: str
    size: int
    sha256: str

    def verify(self, path: Path) -> None:
        """Check that `path` holds this file.

        Raises:
            DatasetError: It cannot be read, is shorter or longer, or has other content.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
        if len(content) != self.size:
            raise DatasetError(
                f"{path} has {len(content)} bytes, expected {self.size}: it is cut off or another "
                "file. Replace or delete it."
            )
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise DatasetError(
                f"{path} has SHA-256 {found}, expected {self.sha256}: it is damaged or another "
                "file. Replace or delete it."
            )


def download(file: KnownFile, base_url: str, folder: Path) -> Path:
    """Fetch a file into a folder; only verified content gets its final name.

    A transfer that breaks off is continued from where it was, within this call and by later ones
    (HTTP range requests); what has arrived waits as `NAME.part`.

    Raises:
        DatasetError: It cannot be fetched, or what came is something else.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    url = f"{base_url.rstrip('/')}/{file.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "nothing arrived"
        for _ in range(ATTEMPTS):
            try:
                _continue(url, part, file.size)
            except urllib.error.HTTPError as error:
                raise DatasetError(
                    f"{url} is refused by its server ({error.code} {error.reason}). Put "
                    f"{file.name} into {folder} yourself."
                ) from error
            except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
                reason = str(error)
                continue
            if part.stat().st_size >= file.size:
                break
            reason = f"{part.stat().st_size} of {file.size} bytes arrived"
        else:
            raise DatasetError(
                f"{url} could not be fetched ({reason}). Run again to go on from there, or put "
                f"{file.name} into {folder} yourself."
            )
        try:
            file.verify(part)
        except DatasetError:
            part.unlink()
            raise
        part.replace(target)
    except OSError as error:
        raise DatasetError(f"{target} cannot be written: {error.strerror or error}.") from error
    return target


def cache_folder() -> Path:
    """Where downloads are kept: `opu` in the user's cache folder (`XDG_CACHE_HOME`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "opu"


def _continue(url: str, part: Path, size: int) -> None:
    """Append what is missing to the part, or begin again where the server cannot."""
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
        goes_on = reply.status == 206
        with part.open("ab" if goes_on else "wb") as out:
            while (block := reply.read(BLOCK)) and out.tell() <= size:
                out.write(block)
