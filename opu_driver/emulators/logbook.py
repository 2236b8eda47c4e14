"""What an emulated laser heard and how it shone, with the time of each.

Times are those of `time.monotonic()`, which all processes of one machine share. A logbook that is
kept in a file can be read by another process while it grows, and outlives the laser: it is the
evidence that light ended in time.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Command:
    """A command that arrived.

    Attributes:
        at_s: When, `time.monotonic()`.
        text: What it said, without its ending.
    """

    at_s: float
    text: str


@dataclass(frozen=True)
class Light:
    """The power that a laser emits from a moment on.

    Attributes:
        at_s: When it changed, `time.monotonic()`.
        power_mw: The power that was set, milliwatts; 0 for darkness. A laser that warms up
            gives less of it at first.
    """

    at_s: float
    power_mw: float


@dataclass(frozen=True)
class Emission:
    """A stretch of time with light.

    Attributes:
        begin_s: When it began, `time.monotonic()`.
        end_s: When it ended; None if it still lasts.
        highest_mw: The highest power that was set on the way, milliwatts.
    """

    begin_s: float
    end_s: float | None
    highest_mw: float


class Logbook:
    """Commands and light of one laser, in the order of time.

    Args:
        path: File that it is also written to, a line of JSON each; None for memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.commands: list[Command] = []
        self.lights: list[Light] = []
        self._lock = threading.Lock()
        self._path = path
        if path is not None:
            path.write_text("")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The logbook in a file, as far as its lines are whole."""
        book = cls()
        whole, _, _ = path.read_text().rpartition("\n")
        for line in whole.splitlines():
            entry = json.loads(line)
            if "text" in entry:
                book.commands.append(Command(**entry))
            else:
                book.lights.append(Light(**entry))
        return book

    def heard(self, at_s: float, text: str) -> None:
        """Note a command."""
        with self._lock:
            self.commands.append(Command(at_s, text))
            self._write({"at_s": at_s, "text": text})

    def shone(self, at_s: float, power_mw: float) -> None:
        """Note that the light changed."""
        with self._lock:
            self.lights.append(Light(at_s, power_mw))
            self._write({"at_s": at_s, "power_mw": power_mw})

    @property
    def texts(self) -> list[str]:
        """The commands without their times."""
        return [command.text for command in self.commands]

    @property
    def emissions(self) -> list[Emission]:
        """When there was light."""
        stretches: list[Emission] = []
        for light in list(self.lights):
            last = stretches[-1] if stretches else None
            if last is None or last.end_s is not None:
                if light.power_mw > 0:
                    stretches.append(Emission(light.at_s, None, light.power_mw))
            elif light.power_mw > 0:
                highest = max(last.highest_mw, light.power_mw)
                stretches[-1] = Emission(last.begin_s, None, highest)
            else:
                stretches[-1] = Emission(last.begin_s, light.at_s, last.highest_mw)
        return stretches

    def _write(self, entry: dict[str, float | str]) -> None:
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
