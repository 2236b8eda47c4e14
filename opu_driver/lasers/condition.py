"""What an answer means, in the words of a bench file.

    "ON"             the answer is ON, in either case
    "1|ON"           it is 1 or ON; numbers are compared as numbers, so 1 is also 1.0 or +1
    "bit 3"          bit 3 of the answer, an integer, is set
    "not bit 3"      it is not; `not` turns any condition round
    "hex bit 3"      the answer is an integer in hexadecimal digits

Of an answer with commas, as `0,"No error"`, the first field may stand for the whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from opu_driver.errors import SettingError

_BIT = re.compile(r"(?P<hex>hex )?bit (?P<bit>\d{1,2})")


@dataclass(frozen=True)
class Condition:
    """A condition on an answer.

    Attributes:
        texts: Answers that fulfil it, if it is not about a bit.
        bit: The bit it is about.
        base: In which digits the answer tells the bits.
        negated: Whether it is turned round.
    """

    texts: tuple[str, ...] = ()
    bit: int | None = None
    base: int = 10
    negated: bool = False

    @classmethod
    def parse(cls, text: str, key: str) -> Condition:
        """A condition in the words of a bench file.

        Args:
            text: The words.
            key: The key they stand under, for the message.

        Raises:
            SettingError: They do not make a condition.
        """
        rest = text.strip()
        negated = rest.startswith("not ")
        rest = rest.removeprefix("not ").strip()
        match = _BIT.fullmatch(rest)
        if match:
            return cls(bit=int(match["bit"]), base=16 if match["hex"] else 10, negated=negated)
        texts = tuple(part.strip().casefold() for part in rest.split("|"))
        if not all(texts) or rest.split()[0] in ("not", "bit", "hex"):
            raise SettingError(
                f"{key} = {text!r}; it has to be an answer such as 'ON', several such as '1|ON', "
                "or a bit such as 'bit 3' or 'hex bit 3', each perhaps after 'not'."
            )
        return cls(texts, negated=negated)

    def holds(self, answer: str) -> bool:
        """Whether an answer fulfils it.

        Raises:
            ValueError: It is about a bit, and the answer is no integer.
        """
        if self.bit is not None:
            return bool(int(answer, self.base) >> self.bit & 1) is not self.negated
        said = answer.casefold()
        fields = {said, said.split(",")[0].strip()}
        met = any(_same(text, field) for text in self.texts for field in fields)
        return met is not self.negated


def _same(text: str, field: str) -> bool:
    if text == field:
        return True
    try:
        return float(text) == float(field)
    except ValueError:
        return False
