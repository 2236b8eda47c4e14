"""The named features of a GenICam camera, whichever library reaches them.

Names: GenICam Standard Features Naming Convention (EMVA); kinds of features: GenICam Standard
(GenApi), interfaces IInteger, IFloat, IEnumeration, IBoolean, ICommand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

Value = bool | int | float | str
"""What a feature is set to: enumerations by the name of an entry."""


class Features(ABC):
    """Access by the names of the GenICam Standard Features Naming Convention (SFNC).

    Everything here raises DeviceLostError when the camera does not answer any more.
    """

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether the camera has the feature, and it is available now."""

    @abstractmethod
    def number(self, name: str) -> float:
        """The value of an integer or float feature."""

    @abstractmethod
    def text(self, name: str) -> str:
        """The value of a string feature, or the name of an enumeration's entry."""

    @abstractmethod
    def set(self, name: str, value: Value) -> None:
        """Set a feature.

        Raises:
            SettingError: The camera has no such feature, or refuses the value.
        """

    @abstractmethod
    def execute(self, name: str) -> None:
        """Execute a command.

        Raises:
            SettingError: The camera has no such command, or refuses it now.
        """

    @abstractmethod
    def limits(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of an integer or float feature, now."""

    @abstractmethod
    def step(self, name: str) -> int:
        """The increment of an integer feature."""

    @abstractmethod
    def choices(self, name: str) -> tuple[str, ...]:
        """The entries of an enumeration that are available; none if there is no such feature."""

    def first(self, *names: str) -> str | None:
        """The first of several names that the camera has."""
        return next((name for name in names if self.has(name)), None)

    def set_if_there(self, name: str, value: str) -> None:
        """Choose an entry of an enumeration that not every camera has."""
        if value in self.choices(name) and self.text(name) != value:
            self.set(name, value)
