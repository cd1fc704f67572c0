"""From text to Jinja's parse tree: Tera's tokens, read by Jinja's parser.

This module has its own tokeniser because Tera's tokens differ: strings are in double, single or
back quotes without escapes, names are ASCII, numbers are decimal, text keeps its line ends; and the
place of each tag must be known. Scripts are full of braces, so some of what Tera takes for a tag is
text: `{{"key": ...` (the way an f-string writes a JSON object), the shell's `${#name}`, and any
`{#` that no comment can begin with, see `_Scanner._comment`. A dotted path is one name token.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, cast

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.lexer import Token, TokenStream, operators, reverse_operators
from jinja2.parser import Parser

from engine.templating.values import WHITESPACE, is_number

MAX_TOKENS = 20_000
MAX_TAGS = 5_000
MAX_NESTING = 30  # of parentheses, brackets and arguments
MAX_LOOPS = 10  # Python compiles at most 20 nested blocks
MAX_BLOCKS = 20
KEYWORDS = frozenset({"and", "or", "not", "in", "is"})
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}
MARKER = re.compile(r"\{[{%#]")
_OBJECT = re.compile(r"""\s*("[^"\n]*"|'[^'\n]*')\s*:(?!:)""")
_RAW = re.compile(r"\{%(-?)\s*raw\s*(-?)%\}")
_END_RAW = re.compile(r"\{%(-?)\s*endraw\s*(-?)%\}")
_SPACE = re.compile(r"[ \t\r\n]+")
_CLOSE = {"}}": re.compile(r"(-?)\}\}"), "%}": re.compile(r"(-?)%\}")}
_TOKEN = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)"
    r"|(?P<float>(?:0|[1-9][0-9]*)\.[0-9]+)(?![A-Za-z0-9_.])"
    r"|(?P<integer>0|[1-9][0-9]*)(?![A-Za-z0-9_.])"
    r"""|(?P<string>"[^"]*"|'[^']*'|`[^`]*`)"""
    r"|(?P<operator>==|!=|<=|>=|[<>+\-*/%~|()\[\],=])"
)
_TAIL = re.compile(r"(?:\.[A-Za-z0-9_]+)+")
_TAG_ENDS = frozenset({"variable_end", "block_end"})
_WANTED = {"variable_end": "an operator or the end of the tag", "block_end": "the end of the tag"}
_TAGS = "if, for, set, set_global, filter, raw, break and continue"
_NO_MACROS = "macros are switched off; repeat the text, or compute it in a step"
NO_CONDITION = "write {% if ... %}{% else %}{% endif %}: there is no 'if' within an expression"
_TEXT = "write {% raw %}{#{% endraw %} for the text"
_ENDLESS = f"'{{#' opens a comment that never ends; {_TEXT}"
_DOUBTFUL = (
    "'{#' opens a comment only if '#}' follows in its line, or if it stands first in its line and"
    f" a space comes after it and before '#}}'; {_TEXT}"
)
_COMMENT_END = re.compile(r"(?<=[\s-])#\}")
_FOREIGN = (
    "; for the templates of another program, write {% raw %} before them and {% endraw %} after"
    " them"
)
_COMPLAINTS = {
    ".": "a name, a number or a closing bracket was expected at '.'",
    "{": "'{' is not allowed in an expression; write {% raw %} around text that is full of braces",
}
_LEFT_OVER = {
    "tilde": "'~' joins plain values; apply the filter first with {% set %}",
    "if": NO_CONDITION,
    "else": NO_CONDITION,
}
_REFUSED = {
    "macro": _NO_MACROS,
    "block": "blocks are switched off: a template stands alone",
    "extends": "extends is switched off: a template stands alone",
    "include": (
        "include is switched off: a template stands alone; a script can read files of the workspace"
    ),
    "import": "import is switched off: a template stands alone",
}
_SUMS: Mapping[str, type[nodes.BinExpr]] = {"add": nodes.Add, "sub": nodes.Sub}
_PRODUCTS: Mapping[str, type[nodes.BinExpr]] = {
    "mul": nodes.Mul,
    "div": nodes.Div,
    "mod": nodes.Mod,
}


class Tag(NamedTuple):
    """`{{ ... }}` when it prints, else `{% ... %}`, and its place in the template."""

    prints: bool
    line: int
    start: int
    end: int


class _Scanner:
    """Splits one template into tokens for Jinja's parser."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.tags: list[Tag] = []
        self._count = 0  # of the tokens within tags
        self._next_end = -1  # where the next '#}' is; the length of the text if there is none
        self._line_starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def line(self, position: int) -> int:
        return bisect_right(self._line_starts, position)

    def fail(self, message: str, position: int) -> TemplateSyntaxError:
        return TemplateSyntaxError(message, self.line(position))

    def scan(self) -> None:
        text, position, begin, trims = self.text, 0, 0, False
        while found := MARKER.search(text, position):
            start = found.start()
            is_comment = text.startswith("{#", start)
            comment_end = self._comment(start) if is_comment else None
            if comment_end is None and (is_comment or _OBJECT.match(text, start + 2)):
                position = start + 2
                continue
            opens_trimmed = text.startswith("-", start + 2)
            self._data(begin, start, trims, opens_trimmed)
            inside = start + 2 + opens_trimmed
            if comment_end is None:
                position, trims = self._tag(start, inside)
            else:
                position = comment_end
                trims = text.startswith("-#}", position - 3) and position - 2 > inside
            begin = position
        self._data(begin, len(text), trims, False)

    def _data(self, start: int, end: int, trims_left: bool, trims_right: bool) -> None:
        value = self.text[start:end]
        value = value.lstrip(WHITESPACE) if trims_left else value
        value = value.rstrip(WHITESPACE) if trims_right else value
        if value:
            self.tokens.append(Token(self.line(start), "data", value))

    def _comment(self, start: int) -> int | None:
        """Where the comment ends that begins with this `{#`; None if it is text.

        Scripts hold `{#` and `#}` of their own: `${#a[@]}`, `${text%#}`, a function that is
        commented out. What could be either is refused, so that no script is cut in silence.
        """
        text, inside = self.text, start + 2
        if text.startswith("$", start - 1) and start:
            return None
        if self._next_end < inside:
            found = text.find("#}", inside)
            self._next_end = found if found >= 0 else len(text)
        end = self._next_end
        is_spaced = text[inside : inside + 1] in ("", "-", *WHITESPACE)
        if end == len(text):
            if is_spaced:
                raise self.fail(_ENDLESS, start)
            return None
        if text.find("\n", inside, end) < 0:
            return end + 2
        line_start = self._line_starts[self.line(start) - 1]
        closed = _COMMENT_END.search(text, inside)
        if not is_spaced or closed is None or text[line_start:start].strip():
            raise self.fail(_DOUBTFUL, start)
        return closed.end()

    def _tag(self, start: int, inside: int) -> tuple[int, bool]:
        """Where the tag ends, and whether the text after it loses its leading space."""
        text = self.text
        if raw := _RAW.match(text, start):
            finish = _END_RAW.search(text, raw.end())
            if not finish:
                raise self.fail("{% raw %} has no {% endraw %}", start)
            self._data(raw.end(), finish.start(), bool(raw[2]), bool(finish[1]))
            return finish.end(), bool(finish[2])
        prints, line = text.startswith("{{", start), self.line(start)
        kind, closing = ("variable", "}}") if prints else ("block", "%}")
        self.tokens.append(Token(line, f"{kind}_begin", text[start : start + 2]))
        end, trims = self._inside(inside, closing, start)
        if prints and self.tokens[-1].type == "variable_begin":
            raise TemplateSyntaxError(
                "the tag is empty; write {% raw %} around braces that belong to the text", line
            )
        self.tokens.append(Token(line, f"{kind}_end", closing))
        self.tags.append(Tag(prints, line, start, end))
        if len(self.tags) > MAX_TAGS:
            raise self.fail(
                f"the template has more than {MAX_TAGS} tags; move its logic into a script", start
            )
        return end, trims

    def _inside(self, position: int, closing: str, start: int) -> tuple[int, bool]:
        text = self.text
        while True:
            if space := _SPACE.match(text, position):
                position = space.end()
            if found := _CLOSE[closing].match(text, position):
                return found.end(), bool(found[1])
            if position >= len(text):
                raise self.fail(f"'{text[start : start + 2]}' has no closing '{closing}'", start)
            position = self._token(position, closing)
            self._count += 1
            if self._count > MAX_TOKENS:
                raise self.fail("the template is too long; move its logic into a script", start)

    def _token(self, position: int, closing: str) -> int:
        text, line = self.text, self.line(position)
        if self.tokens[-1].type == "rbracket" and (tail := _TAIL.match(text, position)):
            self.tokens += [Token(line, "dot", "."), Token(line, "name", tail[0][1:])]
            return tail.end()
        found = _TOKEN.match(text, position)
        if not found:
            raise self.fail(self._complaint(position, closing), position)
        value: Any = found[0]
        kind = str(found.lastgroup)
        match kind:
            case "operator":
                kind = operators[value]
            case "string":
                value = value[1:-1]
            case "integer":
                value = int(value[:30])  # longer numbers are refused anyway
            case "float":
                value = float(value)
        self.tokens.append(Token(line, kind, value))
        return found.end()

    def _complaint(self, position: int, closing: str) -> str:
        char = self.text[position]
        if char in "\"'`":
            return f"a string that begins with {char} is not closed"
        if char in "%}":
            return f"{char!r} is not allowed here; the tag ends with '{closing}'"
        if char.isdigit():
            return "a number is written like 12 or 1.5"
        if self.text.startswith("::", position):
            return _NO_MACROS
        if char == "." and self.tokens[-1].type == "variable_begin":
            return _COMPLAINTS["."] + _FOREIGN
        shown = f"{char!r}" if char.isprintable() else "a control character"
        return _COMPLAINTS.get(char, f"{shown} is not allowed here")


def is_plain_name(name: str) -> bool:
    return "." not in name and name not in KEYWORDS


def _unexpected(wanted: str, token: Token) -> TemplateSyntaxError:
    if token.type in _TAG_ENDS:
        return TemplateSyntaxError(f"{wanted} was expected before the end of the tag", token.lineno)
    shown = "a string" if token.type == "string" else f"'{str(token.value)[:40]}'"
    return TemplateSyntaxError(f"{wanted} was expected, not {shown}", token.lineno)


class _Stream(TokenStream):
    """Jinja's token stream, with our message for an unexpected token."""

    def __init__(self, text: str) -> None:
        scanner = _Scanner(text)
        scanner.scan()
        self.tags = scanner.tags
        super().__init__(scanner.tokens, None, None)

    def expect(self, expr: str) -> Token:
        token = self.current
        if expr == "name":
            return self.name_of("a filter")
        if not token.test(expr):
            key = token.value if token.type == "name" else token.type
            if expr in _TAG_ENDS and key in _LEFT_OVER:
                raise TemplateSyntaxError(_LEFT_OVER[key], token.lineno)
            wanted = reverse_operators.get(expr, expr.removeprefix("name:"))
            raise _unexpected(_WANTED.get(expr, f"'{wanted}'"), token)
        return next(self)

    def name_of(self, what: str) -> Token:
        if self.current.type != "name" or not is_plain_name(self.current.value):
            raise _unexpected(f"the name of {what}", self.current)
        return next(self)


class _Grammar(Environment):
    """Supplies the tokens to Jinja's parser."""

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        return _Stream(source)


_GRAMMAR = _Grammar()


class TeraParser(Parser):
    """Jinja's parser with Tera's differences: the tags and the precedence.

    A filter applies to the whole arithmetic or concatenation before it (`1 + a | abs` is `(1 + a) |
    abs`), and a chain of operators after a filter forms its own unit (`a | length * 2 + 1` is `a |
    length * (2 + 1)`). A test (`a is odd`) belongs to the variable before it.
    """

    stream: _Stream

    def __init__(self, text: str) -> None:
        super().__init__(_GRAMMAR, text)
        self._nesting = 0
        self._open: list[tuple[str, int]] = []  # the blocks around the current place: name, line

    def parse_statement(self) -> nodes.Node | list[nodes.Node]:
        token = self.stream.current
        match token.value:
            case "if":
                return self._block(self.parse_if)
            case "for":
                return self._block(self.parse_for)
            case "filter":
                return self._block(self.parse_filter_block)
            case "set" | "set_global":
                return self.parse_set()
            case "break":
                return nodes.Break(lineno=next(self.stream).lineno)
            case "continue":
                return nodes.Continue(lineno=next(self.stream).lineno)
        raise self._unknown_tag(self.stream.name_of("a tag"))

    def _block(self, parse: Callable[[], nodes.Stmt]) -> nodes.Stmt:
        token = self.stream.current
        self._open.append((token.value, token.lineno))
        loops = sum(name == "for" for name, _ in self._open)
        if len(self._open) > MAX_BLOCKS or loops > MAX_LOOPS:
            raise TemplateSyntaxError(
                "the template's blocks are nested too deeply; do this in a script", token.lineno
            )
        found = parse()
        self._open.pop()
        return found

    def parse_for(self) -> nodes.For:
        line = next(self.stream).lineno
        names = [self.stream.name_of("the loop's variable").value]
        if self.stream.skip_if("comma"):
            names.append(self.stream.name_of("the second variable").value)
        self.stream.expect("name:in")
        container = self.parse_expression()
        body = self.parse_statements(("name:endfor", "name:else"))
        instead: list[nodes.Node] = []
        if next(self.stream).value == "else":
            instead = self.parse_statements(("name:endfor",), drop_needle=True)
        target = nodes.Tuple([nodes.Name(name, "store") for name in names], "store")
        return nodes.For(target, container, body, instead, None, False, lineno=line)

    def parse_set(self) -> nodes.Assign:
        """`set_global` sets the name in the namespace `global`."""
        word = next(self.stream)
        name = self.stream.name_of("the variable").value
        self.stream.expect("assign")
        is_global = word.value == "set_global"
        target = nodes.NSRef("global", name) if is_global else nodes.Name(name, "store")
        return nodes.Assign(target, self.parse_expression(), lineno=word.lineno)

    def _unknown_tag(self, token: Token) -> TemplateSyntaxError:
        name = token.value
        shown, (inner, line) = f"{{% {name[:40]} %}}", (self._open or [("", 0)])[-1]
        if name in _REFUSED:
            message = _REFUSED[name]
        elif not (name.startswith("end") or name in ("else", "elif")):
            message = f"there is no tag {shown}; tags are {_TAGS}"
        elif inner:
            message = f"{shown} does not fit here: {{% {inner} %}} of line {line} is still open"
        else:
            message = f"{shown} does not belong to any tag"
        return TemplateSyntaxError(message, token.lineno)

    def fail_eof(self, end_tokens: Any = None, lineno: int | None = None) -> NoReturn:
        name, line = self._open[-1]
        raise TemplateSyntaxError(f"{{% {name} %}} has no {{% end{name} %}}", line)

    def fail(self, msg: str, lineno: int | None = None, exc: Any = None) -> NoReturn:
        """The remaining errors of Jinja's own: no value, or a value between named arguments."""
        raise _unexpected("a value" if lineno is None else "name=value", self.stream.current)

    def parse_expression(self, with_condexpr: bool = True) -> nodes.Expr:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise TemplateSyntaxError(
                "the expression is nested too deeply; use {% set %} for its parts",
                self.stream.current.lineno,
            )
        found = super().parse_expression(with_condexpr)
        self._nesting -= 1
        return found

    def parse_math1(self) -> nodes.Expr:
        token = self.stream.current
        found = self._chain(_SUMS, lambda: self._chain(_PRODUCTS, self._unit))
        if token.type == "string" and isinstance(found, nodes.BinExpr):
            verb = "adds" if found.operator == "+" else "calculates with"
            message = f"'{found.operator}' {verb} numbers; join text with '~'"
            raise TemplateSyntaxError(message, token.lineno)
        return found

    def _chain(
        self, kinds: Mapping[str, type[nodes.BinExpr]], part: Callable[[], nodes.Expr]
    ) -> nodes.Expr:
        found = part()
        while kind := kinds.get(self.stream.current.type):
            line = next(self.stream).lineno
            found = kind(found, part(), lineno=line)
        return found

    def _unit(self) -> nodes.Expr:
        """Values and operators up to a filter, and the filters after them."""
        return cast(nodes.Expr, self.parse_filter(super().parse_math1()))

    def parse_unary(self, with_filter: bool = True) -> nodes.Expr:
        found = super().parse_unary(with_filter=False)
        match found:
            case nodes.Neg(node=nodes.Const(value=value)) if is_number(value):
                return nodes.Const(-value, lineno=found.lineno)
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                return self.parse_test(found) if self.stream.current.test("name:is") else found
        return found

    def parse_primary(self, with_namespace: bool = False) -> nodes.Expr:
        token = self.stream.current
        match token.type:
            case "lparen" | "lbracket":
                return super().parse_primary()
            case "string" | "integer" | "float":
                found: nodes.Expr = nodes.Const(token.value, lineno=token.lineno)
            case "name" if token.value in _BOOLEANS:
                found = nodes.Const(_BOOLEANS[token.value], lineno=token.lineno)
            case "name" if token.value not in KEYWORDS:
                found = nodes.Name(token.value, "load", lineno=token.lineno)
            case _:
                raise _unexpected("a value", token)
        next(self.stream)
        return found

    def parse_test(self, node: nodes.Expr) -> nodes.Expr:
        line = next(self.stream).lineno
        is_negated = self.stream.skip_if("name:not")
        name = self.stream.name_of("a test").value
        has_arguments = self.stream.current.type == "lparen"
        arguments = self.parse_call_args() if has_arguments else ([], [], None, None)
        found = nodes.Test(node, name, *arguments, lineno=line)
        return nodes.Not(found, lineno=line) if is_negated else found
