"""KDL text -> nodes with places. Reads versions 1 and 2: `true` and `#true`, `r#"…"#` and
`#"…"#`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from engine.plain import shorten
from engine.spec.draft import LIMITS, Limits, Node
from engine.spec.model import Place
from engine.spec.reader import decode
from engine.spec.torc.json5 import Scanner

_BLANK = re.compile(r"[ \t\ufeff\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_NEWLINE = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")
_LINE_COMMENT = re.compile(r"//[^\n\r\x0b\x0c\x85\u2028\u2029]*")
_BARE = re.compile(r'[^\s\\/(){};\[\]="#\ufeff]+')
_RAW = re.compile(r'r?(#+)"|r()"')
_PLAIN = re.compile(r'[^"\\]+')
_DECIMAL = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9][0-9_]*)?([eE][-+]?[0-9][0-9_]*)?\Z")
_RADIX = re.compile(r"[-+]?0(x[0-9a-fA-F][0-9a-fA-F_]*|o[0-7][0-7_]*|b[01][01_]*)\Z")
_KEYWORD = re.compile(r"#(true|false|null|inf|-inf|nan)\b")
_ESCAPES = {
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "\\": "\\",
    '"': '"',
    "/": "/",
    "b": "\b",
    "f": "\f",
    "s": " ",
}
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


@dataclass(slots=True)
class KdlNode:
    """`name arg arg key=value { children }`. Arguments and values are scalars."""

    name: str
    place: Place
    args: list[Node] = field(default_factory=list)
    props: dict[str, Node] = field(default_factory=dict)
    children: list[KdlNode] = field(default_factory=list)
    has_block: bool = False


def read(file: str, raw: str | bytes, limits: Limits = LIMITS) -> list[KdlNode]:
    """The nodes of a document. Raises Refusal."""
    scanner = Scanner(file, decode(file, raw, limits), limits)
    nodes = _nodes(scanner)
    if not scanner.is_at_end:
        raise scanner.unexpected("a node")
    return nodes


def _nodes(scanner: Scanner) -> list[KdlNode]:
    found: list[KdlNode] = []
    while True:
        _skip_lines(scanner)
        if scanner.is_at_end or scanner.peek() == "}":
            return found
        is_dropped = _slash_dash(scanner)
        node = _node(scanner)
        if not is_dropped:
            found.append(node)


def _slash_dash(scanner: Scanner) -> bool:
    """`/-` leaves out what follows it."""
    if not scanner.take("/-"):
        return False
    _skip_lines(scanner)
    return True


def _skip_lines(scanner: Scanner) -> None:
    while _skip_blank(scanner) or scanner.match(_NEWLINE) is not None or scanner.take(";"):
        continue


def _skip_blank(scanner: Scanner) -> bool:
    """Skip blanks, comments, and line ends after a backslash; True when there was any."""
    began = scanner.at
    while True:
        if scanner.match(_BLANK) is not None:
            continue
        if scanner.peek(2) == "//":
            scanner.match(_LINE_COMMENT)
        elif scanner.peek(2) == "/*":
            _skip_block(scanner)
        elif scanner.peek() == "\\":
            _continue_line(scanner)
        else:
            return scanner.at > began


def _skip_block(scanner: Scanner) -> None:
    began, depth = scanner.at, 0
    for found in re.compile(r"/\*|\*/").finditer(scanner.text, scanner.at):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            scanner.at = found.end()
            return
    raise scanner.fail("this comment is never closed", began)


def _continue_line(scanner: Scanner) -> None:
    at = scanner.at
    scanner.take("\\")
    scanner.match(_BLANK)
    scanner.match(_LINE_COMMENT)
    if scanner.match(_NEWLINE) is None and not scanner.is_at_end:
        raise scanner.fail("the line must end after a '\\'", at)


def _node(scanner: Scanner) -> KdlNode:
    _skip_type(scanner)
    scanner.count()
    place = scanner.place()
    node = KdlNode(_name(scanner), place)
    while True:
        has_gap = _skip_blank(scanner)
        if scanner.is_at_end or scanner.peek() in (";", "}") or scanner.match(_NEWLINE) is not None:
            return node
        is_dropped = _slash_dash(scanner)
        if scanner.peek() == "{":
            children = _block(scanner)
            if not is_dropped:
                node.children += children
                node.has_block = True
        elif not has_gap and not is_dropped:
            raise scanner.unexpected("a blank")
        else:
            _entry(scanner, node, is_dropped)


def _block(scanner: Scanner) -> list[KdlNode]:
    began = scanner.at
    scanner.descend()
    scanner.take("{")
    children = _nodes(scanner)
    if not scanner.take("}"):
        raise scanner.fail("the '{' opened here is never closed", began)
    scanner.ascend()
    return children


def _entry(scanner: Scanner, node: KdlNode, is_dropped: bool) -> None:
    """An argument, or `key=value`."""
    scanner.count()
    _skip_type(scanner)
    value = _value(scanner)
    if isinstance(value.value, str) and scanner.take("="):
        _skip_type(scanner)
        of = _value(scanner)
        if not is_dropped:
            node.props[value.value] = Node(of.value, value.place, of.text)
    elif not is_dropped:
        node.args.append(value)


def _skip_type(scanner: Scanner) -> None:
    """A type annotation such as `(u8)`; it means nothing here."""
    if scanner.take("("):
        _skip_blank(scanner)
        _name(scanner)
        _skip_blank(scanner)
        if not scanner.take(")"):
            raise scanner.unexpected("a ')'")


def _name(scanner: Scanner) -> str:
    found = _value(scanner)
    if not isinstance(found.value, str):
        raise scanner.fail(f"a name was expected here, not {found.kind}")
    return found.value


def _value(scanner: Scanner) -> Node:
    place, at = scanner.place(), scanner.at
    if scanner.peek() == '"':
        text = (
            _multiline(scanner)
            if scanner.peek(3) == '"""' and scanner.peek(6) != '""""""'
            else _string(scanner)
        )
        return Node(text, place, text)
    keyword = scanner.match(_KEYWORD)
    if keyword is not None:
        if keyword[1:] not in _WORDS:
            raise scanner.fail(f"{keyword} is a number that cannot be stored", at, "number")
        return Node(_WORDS[keyword[1:]], place, keyword[1:])
    if _RAW.match(scanner.text, scanner.at):
        text = _raw(scanner)
        return Node(text, place, text)
    word = scanner.match(_BARE)
    if word is None:
        raise scanner.unexpected("a value")
    if word in _WORDS:
        return Node(_WORDS[word], place, word)
    if word[:1].isdigit() or (word[:1] in "+-" and word[1:2].isdigit()):
        return Node(_number(scanner, word, at), place, word)
    return Node(word, place, word)


def _string(scanner: Scanner) -> str:
    began = scanner.at
    scanner.take('"')
    parts: list[str] = []
    while not scanner.take('"'):
        plain = scanner.match(_PLAIN)
        if plain is not None:
            parts.append(plain)
        elif scanner.take("\\"):
            parts.append(_escape(scanner))
        else:
            raise scanner.fail("the quote opened here is never closed", began)
    return scanner.storable("".join(parts), began)


def _escape(scanner: Scanner) -> str:
    at = scanner.at
    code = scanner.match(re.compile(r"u\{([0-9a-fA-F]{1,6})\}"))
    if code is not None:
        number = int(code[2:-1], 16)
        if number > 0x10FFFF:
            raise scanner.fail("there is no such character", at)
        return chr(number)
    if scanner.match(re.compile(r"\s+")) is not None:
        return ""  # a line that goes on below
    letter = scanner.peek()
    if letter not in _ESCAPES:
        raise scanner.fail(
            f"this escape is not known: '\\{shorten(letter, 4)}'; write '\\\\' for a backslash", at
        )
    scanner.at += 1
    return _ESCAPES[letter]


def _multiline(scanner: Scanner) -> str:
    """A text between three quotes: its lines lose the indentation of the closing ones."""
    began = scanner.at
    scanner.take('"""')
    end = scanner.text.find('"""', scanner.at)
    if end < 0:
        raise scanner.fail("the quotes opened here are never closed", began)
    lines = re.split(r"\r\n|[\n\r]", scanner.text[scanner.at : end])
    if len(lines) < 2 or lines[0].strip() or lines[-1].strip():
        raise scanner.fail('a text in \'"""\' begins and ends with a line break', began)
    scanner.at = end + 3
    indent = lines[-1]
    body = [line.removeprefix(indent) if line.strip() else "" for line in lines[1:-1]]
    quoted = re.sub(r'(\\.)|"', lambda found: found[1] or '\\"', "\n".join(body))
    inner = Scanner(scanner.file, f'"{quoted}"', scanner.limits)
    return scanner.storable(_string(inner), began)


def _raw(scanner: Scanner) -> str:
    began = scanner.at
    opening = scanner.match(_RAW)
    assert opening is not None
    closing = '"' + "#" * opening.count("#")
    end = scanner.text.find(closing, scanner.at)
    if end < 0:
        raise scanner.fail("the quote opened here is never closed", began)
    text = scanner.text[scanner.at : end]
    scanner.at = end + len(closing)
    return scanner.storable(text, began)


def _number(scanner: Scanner, word: str, at: int) -> int | float:
    if len(word) > 60:
        raise scanner.too_large(word, at)
    bare = word.replace("_", "")
    number: int | float
    if _RADIX.match(word):
        number = int(bare, 0)
    elif not (found := _DECIMAL.match(word)):
        raise scanner.fail(f"'{shorten(word, 30)}' is not a value; put text in quotes", at)
    elif found[1] or found[2]:
        number = float(bare)
    else:
        number = int(bare)
    return scanner.finite(number, word, at)
