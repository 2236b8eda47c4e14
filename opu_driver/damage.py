"""What is wrong with the content of a damaged file, in a few words."""

from __future__ import annotations

from pydantic import ValidationError


def first_damage(error: ValidationError) -> str:
    """The first value that does not fit, by its key; how many more there are."""
    problems = error.errors()
    first = problems[0]
    key = ".".join(map(str, first["loc"])) or "content"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}{more}"
