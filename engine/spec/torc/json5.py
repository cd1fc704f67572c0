"""JSON and JSON5 text -> a tree of nodes with places, and the scanner that the KDL reader shares.
Follows the JSON5 specification 1.0.0.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right

from engine.plain import shorten
from engine.spec.draft import LIMITS, Document, Limits, Node
from engine.spec.model import Place
from engine.spec.reader import Refusal, decode

_BIGGEST = 2**63 - 1


class Scanner:
    """A text, the read position, and counters."""

    def __init__(self, file: str, text: str, limits: Limits) -> None:
        self.file, self.text, self.limits = file, text, limits
        self.at = 0
        self.depth = 0
        self.nodes = 0
        self._starts = [0, *(found.end() for found in re.finditer(r"\r\n|\n|\r", text))]

    @property
    def is_at_end(self) -> bool:
        return self.at >= len(self.text)

    def place(self, at: int | None = None) -> Place:
        position = self.at if at is None else at
        line = bisect_right(self._starts, position)
        return Place(self.file, line, position - self._starts[line - 1] + 1)

    def peek(self, count: int = 1) -> str:
        return self.text[self.at : self.at + count]

    def take(self, wanted: str) -> bool:
        """Skip `wanted` if it comes next."""
        if self.text.startswith(wanted, self.at):
            self.at += len(wanted)
            return True
        return False

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Skip a match of `pattern` at this position; None without one."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def fail(self, message: str, at: int | None = None, code: str = "syntax") -> Refusal:
        return Refusal(self.place(at), code, message)

    def unexpected(self, wanted: str) -> Refusal:
        found = "the end of the file" if self.is_at_end else f"'{shorten(self.peek(), 10)}'"
        return self.fail(f"{wanted} was expected here, not {found}")

    def storable(self, text: str, began: int) -> str:
        """`text`, if a database can store it; it began at `began`."""
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            message = (
                "the text contains a character that cannot be stored (NUL or half a surrogate pair)"
            )
            raise self.fail(message, began)
        return text

    def finite(self, number: int | float, word: str, at: int) -> int | float:
        """`number`, if it is not too large to be stored; it is written as `word` at `at`."""
        if (isinstance(number, int) and abs(number) > _BIGGEST) or math.isinf(number):
            raise self.too_large(word, at)
        return number

    def too_large(self, word: str, at: int) -> Refusal:
        message = f"the number {shorten(word, 30)} is too large; put it in quotes if it is text"
        return self.fail(message, at, "number")

    def count(self) -> None:
        """Count a value; raises Refusal above the limit of a file."""
        self.nodes += 1
        if self.nodes > self.limits.nodes:
            raise self.fail(
                f"the file holds more than {self.limits.nodes:,} values; split it", code="too-big"
            )

    def descend(self) -> None:
        self.depth += 1
        if self.depth > self.limits.depth:
            raise self.fail(
                f"values are nested deeper than {self.limits.depth} levels here", code="too-deep"
            )

    def ascend(self) -> None:
        self.depth -= 1


_SPACE = re.compile(r"[\s\ufeff]+")
_COMMENT = re.compile(r"//[^\n\r\u2028\u2029]*|/\*.*?\*/", re.DOTALL)
# among them all that a name may have
_LETTERS = re.compile(r"[^\x00-#%-/:-@\[-^`{-\x7f\s\u2028\u2029\ufeff]+")
_NAME_JOINERS = "$\u200c\u200d"
_WORD = re.compile(r"[-+]?[\w$.]+(?:(?<=[eE])[-+]\d+)?")
_HEX = re.compile(r"[-+]?0[xX][0-9a-fA-F]+\Z")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_PLAIN = {'"': re.compile(r'[^"\\\n\r]+'), "'": re.compile(r"[^'\\\n\r]+")}
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}


def read(file: str, raw: str | bytes, limits: Limits = LIMITS) -> Document:
    """The one value in `raw`; never raises."""
    try:
        scanner = Scanner(file, decode(file, raw, limits), limits)
        _skip(scanner)
        root = _value(scanner)
        _skip(scanner)
        if not scanner.is_at_end:
            raise scanner.unexpected("the end of the file")
    except Refusal as refusal:
        return Document(None, (refusal.problem,))
    return Document(root)


def _skip(scanner: Scanner) -> None:
    while scanner.match(_SPACE) is not None or scanner.match(_COMMENT) is not None:
        continue
    if scanner.peek(2) == "/*":
        raise scanner.fail("this comment is never closed")


def _value(scanner: Scanner) -> Node:
    scanner.count()
    place = scanner.place()
    match scanner.peek():
        case "{":
            return _object(scanner, place)
        case "[":
            return _array(scanner, place)
        case '"' | "'":
            text = _string(scanner)
            return Node(text, place, text)
        case _:
            return _word(scanner, place)


def _object(scanner: Scanner, place: Place) -> Node:
    pairs: dict[str, Node] = {}
    keys: dict[str, Place] = {}
    scanner.descend()
    scanner.take("{")
    _skip(scanner)
    while not scanner.take("}"):
        at = scanner.at
        key = _key(scanner)
        if key in keys:
            message = f"the key '{shorten(key)}' appears twice (first at {keys[key]}); keep one"
            raise scanner.fail(message, at, "duplicate-key")
        keys[key] = scanner.place(at)
        _skip(scanner)
        if not scanner.take(":"):
            raise scanner.unexpected("a ':' after the key")
        _skip(scanner)
        pairs[key] = _value(scanner)
        _separate(scanner, "}")
    scanner.ascend()
    return Node(pairs, place, "", keys)


def _array(scanner: Scanner, place: Place) -> Node:
    items: list[Node] = []
    scanner.descend()
    scanner.take("[")
    _skip(scanner)
    while not scanner.take("]"):
        items.append(_value(scanner))
        _separate(scanner, "]")
    scanner.ascend()
    return Node(tuple(items), place)


def _separate(scanner: Scanner, closing: str) -> None:
    _skip(scanner)
    if scanner.take(","):
        _skip(scanner)
    elif scanner.peek() != closing:
        raise scanner.unexpected(f"a ',' or '{closing}'")


def _key(scanner: Scanner) -> str:
    if scanner.peek() in ("'", '"') and not scanner.is_at_end:
        return _string(scanner)
    began = scanner.at
    found = scanner.match(_LETTERS)
    if found is None or not _is_name(found):
        scanner.at = began
        raise scanner.unexpected("a key")
    return found


def _is_name(text: str) -> bool:
    """Whether it is an ECMAScript 5.1 name: a Python identifier, plus `$` and two joiners."""
    plain = text.translate(dict.fromkeys(map(ord, _NAME_JOINERS), "_"))
    return plain.isidentifier() and text[0] not in "\u200c\u200d"


def _string(scanner: Scanner) -> str:
    began, quote = scanner.at, scanner.peek()
    scanner.take(quote)
    parts: list[str] = []
    while not scanner.take(quote):
        plain = scanner.match(_PLAIN[quote])
        if plain is not None:
            parts.append(plain)
        elif scanner.take("\\"):
            parts.append(_escape(scanner))
        else:
            raise scanner.fail("the quote opened here is not closed on its line", began)
    return scanner.storable("".join(parts), began)


def _escape(scanner: Scanner) -> str:
    letter = scanner.peek()
    scanner.at += 1
    if letter in ("x", "u"):
        width = 2 if letter == "x" else 4
        return _code(scanner, width)
    if letter == "\r":
        scanner.take("\n")
    if letter in ("\n", "\r", "\u2028", "\u2029"):
        return ""
    if letter == "":
        raise scanner.fail("the text ends after a backslash")
    return _ESCAPES.get(letter, letter)


def _code(scanner: Scanner, width: int) -> str:
    digits = scanner.peek(width)
    if not re.fullmatch(rf"[0-9a-fA-F]{{{width}}}", digits):
        raise scanner.fail(f"an escape needs {width} hexadecimal digits here")
    scanner.at += width
    high = int(digits, 16)
    low = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})").match(scanner.text, scanner.at)
    if 0xD800 <= high < 0xDC00 and low is not None:
        scanner.at = low.end()
        return chr(0x10000 + ((high - 0xD800) << 10) + int(low[1], 16) - 0xDC00)
    return chr(high)


def _word(scanner: Scanner, place: Place) -> Node:
    at = scanner.at
    word = scanner.match(_WORD)
    if word is None:
        raise scanner.unexpected("a value")
    known = {"null": None, "true": True, "false": False}
    if word in known:
        return Node(known[word], place, word)
    return Node(_number(scanner, word, at), place, word)


def _number(scanner: Scanner, word: str, at: int) -> int | float:
    number: int | float
    if _HEX.match(word) and len(word) < 40:
        number = int(word, 16)
    elif _INTEGER.match(word) and len(word) < 40:
        number = int(word)
    elif _FLOAT.match(word) and len(word) < 400:
        number = float(word)
    else:
        raise scanner.fail(f"'{shorten(word, 30)}' is not a value; put text in quotes", at)
    return scanner.finite(number, word, at)
