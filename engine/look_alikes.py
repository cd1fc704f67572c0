"""Names that people cannot tell apart: letters of other alphabets, and letters that Unicode can
compose in two ways (`é` as one character, or as `e` and an accent)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import islice

_MOST_CANDIDATES = 200
# of the Cyrillic and Greek alphabets
_LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕԁһԛԝАВЕІЈКМНОРСТХЅαονΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeopcyxijsdhqwABEIJKMHOPCTXSaovABEZHIKMNOPTYX"
)


def composed(name: str) -> str:
    """The same for names that differ only in how Unicode composes their letters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def twin(word: str, known: Iterable[str]) -> tuple[str, str]:
    """The known word that `word` only looks like, and a sentence that says why; empty if there is
    none."""
    shape = _shape(word)
    for candidate in islice(known, _MOST_CANDIDATES):
        if candidate == word or _shape(candidate) != shape:
            continue
        if odd := [one for one in word if not one.isascii() and one not in candidate]:
            name = unicodedata.name(odd[0], f"U+{ord(odd[0]):04X}")
            return candidate, f"'{odd[0]}' is {name} here"
        if composed(candidate) == composed(word):
            return candidate, "Unicode composes its letters differently there"
    return "", ""


def _shape(word: str) -> str:
    """The same for words that look alike."""
    return unicodedata.normalize("NFKC", word.translate(_LOOK_ALIKES))
