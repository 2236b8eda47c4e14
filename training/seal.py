"""A seal on a file: SHA-256 over its content, in the comment that a ZIP archive may end with.

What PyTorch saves is such an archive, and it reads one with a comment like any other. So one file,
put in its place at once, holds content and sum: neither can be there without the other.
"""

from __future__ import annotations

import hashlib
from io import BufferedRandom
from pathlib import Path

from training.errors import CheckpointError

_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64
_LENGTH = 2  # bytes that tell how long the comment is, the last ones of an archive without one


def seal(file: BufferedRandom) -> None:
    """Append the seal to an archive without a comment, open for reading and writing."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(-_LENGTH, 2)
    file.write(_COMMENT.to_bytes(_LENGTH, "little") + _MARK + digest.encode())


def require_sealed(path: Path) -> None:
    """Refuse an archive that is not what was sealed, to the last bit.

    Raises:
        CheckpointError: It is damaged, or has no seal.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        length = file.seek(0, 2) - _LENGTH - _COMMENT
        digest = hashlib.sha256()
        file.seek(0)
        while block := file.read(min(1 << 20, max(length - file.tell(), 0))):
            digest.update(block)
        digest.update(bytes(_LENGTH))
        found = file.read()
    told = _COMMENT.to_bytes(_LENGTH, "little") + _MARK
    if not found.startswith(told):
        raise CheckpointError(
            f"{path} does not end with the SHA-256 of its content: it is truncated, something "
            "else, or of a version of opu that wrote none, and nothing tells whether it is whole. "
            "Delete it to begin the run again, or resume with that version."
        )
    if found != told + digest.hexdigest().encode():
        raise CheckpointError(
            f"{path} is damaged: the SHA-256 of its content is {digest.hexdigest()}, it was saved "
            f"with {found[len(told) :].decode(errors='replace')}. Put a whole copy in its place, "
            "or delete it to begin the run again."
        )
