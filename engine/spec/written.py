"""Numbers as they were written. `3.10` is the number 3.1, but where text is wanted it is `3.10`."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Self

_EXACT_DIGITS = 17  # with so many, every double can be told from its neighbours
_LOOKS_LIKE_TEXT = re.compile(r"[-+]?[0-9]*\.[0-9]*0|[0-9]+[eE][0-9]+|\+.*")
_ONE_ZERO = re.compile(r"-?[0-9]+\.0")


class Written(float):
    """A number that remembers its text. Pickling and arithmetic forget it."""

    text: str

    def __new__(cls, text: str) -> Self:
        found = super().__new__(cls, text)
        found.text = text
        return found


def is_exact(text: str) -> bool:
    """Whether a double holds the number in `text`: at most 17 digits, or no rounding at all."""
    value = float(text)
    if len(text) <= _EXACT_DIGITS and value:
        return True
    mantissa = re.split("[eE]", text.strip().lstrip("+-"))[0].replace(".", "")
    digits = mantissa.strip("0")
    if not digits or (len(digits) <= _EXACT_DIGITS and value != 0):
        return True
    try:
        return Decimal(text) == Decimal(value)
    except InvalidOperation:
        return False


def looks_like_text(text: str) -> bool:
    """Whether the author of this number may mean text: a version (`3.10`), a commit (`12e45`), or
    more digits than a number keeps."""
    if _ONE_ZERO.fullmatch(text):
        return False
    return bool(_LOOKS_LIKE_TEXT.fullmatch(text)) or not is_exact(text)
