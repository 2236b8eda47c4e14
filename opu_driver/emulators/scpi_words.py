"""How SCPI commands are spelled: `SOURce:POWer` may be said `SOUR:POW`, in either case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TypeVar

Action = TypeVar("Action")


@cache
def _spellings(header: str) -> re.Pattern[str]:
    nodes = []
    for node in header.split(":"):
        short = re.match(r"[^a-z]+", node)
        if short is None:
            raise ValueError(f"{header!r} does not tell its short form in capitals")
        rest = node.rstrip("?")[short.end() :]
        end = re.escape("?") if node.endswith("?") else ""
        nodes.append(re.escape(short[0].rstrip("?")) + (f"({rest})?" if rest else "") + end)
    return re.compile(":?" + ":".join(nodes), re.IGNORECASE)


def find_header(said: str, known: Mapping[str, Action]) -> Action | None:
    """What a header that was said stands for.

    Args:
        said: The header, in any spelling.
        known: Headers in long form, their short form in capitals.
    """
    for header, action in known.items():
        if _spellings(header).fullmatch(said):
            return action
    return None
