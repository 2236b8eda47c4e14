"""One thing that was looked at on a bench: what was found, what it should be, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from opu_driver.errors import OpuError


class Verdict(StrEnum):
    """How a finding stands to its limit."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        value: What was found, with its unit, for people.
        number: The same as a number; None where it is none.
        limit: What it should be, for people.
        verdict: How it stands to that.
        advice: What to do about it; empty if all is well.
    """

    name: str
    value: str
    number: float | None
    limit: str
    verdict: Verdict
    advice: str = ""


def finding(
    name: str, value: str, number: float | None, limit: str, verdict: Verdict, advice: str
) -> Finding:
    """A finding; the advice is given only where something is to be mended."""
    return Finding(name, value, number, limit, verdict, "" if verdict is Verdict.PASS else advice)


def judged(
    name: str,
    number: float,
    value: str,
    limits: tuple[float, float],
    limit: str,
    advice: str,
    *,
    at_least: bool = False,
) -> Finding:
    """A finding against two limits: beyond the first a warning, beyond the second a failure."""
    sign = -1.0 if at_least else 1.0
    warn, fail = (sign * edge for edge in limits)
    verdict = Verdict.PASS
    if not sign * number <= warn:
        verdict = Verdict.WARN if sign * number <= fail else Verdict.FAIL
    return finding(name, value, number, limit, verdict, advice)


def failed(name: str, error: OpuError) -> Finding:
    """That something could not be measured, and why."""
    return Finding(name, "not measured", None, "can be measured", Verdict.FAIL, str(error))
