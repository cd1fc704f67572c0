"""Statements of Tera, lowered to a small, safe part of Jinja's syntax tree.

The tree holds text, constants, lists, `and`, `or`, `not`, `if`, `for` and calls of the runtime's
own operations (as filters whose names no author can write). It never holds an attribute access, a
call of a value, or an operator of Python: what a template can do is exactly what
`runtime.OPERATIONS` does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from jinja2 import nodes

from engine.templating.expressions import Expression, ExpressionParser, operation
from engine.templating.lexer import Lexer, Segment, Tag, TemplateSyntaxProblem, Text
from engine.templating.references import References, Splice
from engine.templating.shell_quotes import enclosures
from engine.templating.tags import Names
from engine.templating.values import WHITESPACE

MAX_LOOPS = 10  # Python compiles at most 20 nested blocks
MAX_BLOCKS = 20
MAX_TAGS = 5_000
_REFUSED = {
    "macro": "macros are switched off; repeat the text, or compute it in a step",
    "block": "blocks are switched off: a template stands alone",
    "extends": "extends is switched off: a template stands alone",
    "include": (
        "include is switched off: a template stands alone; a script can read files of the workspace"
    ),
    "import": "import is switched off: a template stands alone",
}


@dataclass(frozen=True, slots=True)
class Parsed:
    """A template that is understood. `value` is set when the whole text is one `{{ expression
    }}`."""

    body: nodes.Template
    value: Expression | None
    references: References
    splices: tuple[Splice, ...]
    filters: frozenset[str]


def parse(text: str) -> Parsed:
    """Raises TemplateSyntaxProblem; executes nothing."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._segments: list[Segment] = list(Lexer(text).segments())
        self._position = 0
        self._names = Names()
        self._splices: list[tuple[Splice, int]] = []  # and where each begins
        self._open: list[tuple[str, int]] = []  # the blocks around the current place: name, line
        if sum(isinstance(segment, Tag) for segment in self._segments) > MAX_TAGS:
            raise TemplateSyntaxProblem(
                f"the template has more than {MAX_TAGS} tags; move its logic into a script", 1
            )

    def parse(self) -> Parsed:
        body, _ = self._body(())
        written = [
            one for one in self._segments if isinstance(one, Tag) or one.value.strip(WHITESPACE)
        ]
        value = None
        if len(written) == 1 and isinstance(written[0], Tag) and written[0].prints:
            value = ExpressionParser(written[0], Names()).whole()
        names = frozenset(path[0] for path in self._names.paths)
        references = References(names, frozenset(self._names.paths))
        return Parsed(
            nodes.Template(body, lineno=1),
            value,
            references,
            self._placed_splices(),
            frozenset(self._names.filters),
        )

    def _placed_splices(self) -> tuple[Splice, ...]:
        if not self._splices:
            return ()
        tags = [(one.start, one.end) for one in self._segments if isinstance(one, Tag)]
        around = {
            start: what for (start, _), what in zip(tags, enclosures(self._text, tags), strict=True)
        }
        return tuple(replace(splice, enclosed=around[start]) for splice, start in self._splices)

    # --- a run of text and tags
    # -----------------------------------------------------------------------------------

    def _body(self, stops: Collection[str]) -> tuple[list[nodes.Node], ExpressionParser | None]:
        """Everything up to a tag named in `stops`, which is returned with its name already read."""
        made: list[nodes.Node] = []
        while self._position < len(self._segments):
            segment = self._segments[self._position]
            self._position += 1
            if isinstance(segment, Text):
                made.append(self._plain(segment))
            elif segment.prints:
                made.append(self._print(segment))
            else:
                tag = ExpressionParser(segment, self._names)
                name = tag.name("the name of a tag")
                if name in stops:
                    tag.word = name
                    return made, tag
                made.extend(self._statement(name, tag, segment.line))
        if stops:
            name, line = self._open[-1]
            raise TemplateSyntaxProblem(f"{{% {name} %}} has no {{% end{name} %}}", line)
        return made, None

    def _plain(self, segment: Text) -> nodes.Node:
        # Inside blocks the text may be written many times, so it is counted when it is written.
        if not any(name in ("for", "filter") for name, _ in self._open):
            return nodes.Output([nodes.TemplateData(segment.value)], lineno=segment.line)
        return nodes.Output(
            [operation("text", nodes.Const(segment.value), segment.line)], lineno=segment.line
        )

    def _print(self, tag: Tag) -> nodes.Node:
        expression = ExpressionParser(tag, self._names).whole()
        if expression.sources:
            around = (
                self._text[max(0, tag.start - 1) : tag.start] + self._text[tag.end : tag.end + 1]
            )
            text = " ".join(self._text[tag.start : tag.end].split())
            self._splices.append(
                (Splice(text, tag.line, expression.sources, expression.filter, around), tag.start)
            )
        return nodes.Output([operation("print", expression.node, tag.line)], lineno=tag.line)

    def _statement(self, name: str, tag: ExpressionParser, line: int) -> list[nodes.Node]:
        match name:
            case "if":
                return [self._if(tag, line)]
            case "for":
                return self._for(tag, line)
            case "set" | "set_global":
                return [self._set(tag, line, name == "set_global")]
            case "filter":
                return [self._filter(tag, line)]
            case "break" | "continue":
                return [self._jump(name, tag, line)]
        if name in _REFUSED:
            raise TemplateSyntaxProblem(_REFUSED[name], line)
        if self._open and name in (
            "else",
            "elif",
            *(f"end{word}" for word in ("if", "for", "filter")),
        ):
            inner, opened = self._open[-1]
            raise TemplateSyntaxProblem(
                f"{{% {name} %}} does not fit here: {{% {inner} %}} of line {opened} is still open",
                line,
            )
        if name.startswith("end") or name in ("else", "elif"):
            raise TemplateSyntaxProblem(f"{{% {name} %}} has nothing to belong to", line)
        raise TemplateSyntaxProblem(
            f"there is no tag {{% {name[:40]} %}}; tags are if, for, set, set_global, filter, raw,"
            " break and continue",
            line,
        )

    def _enter(self, name: str, line: int) -> None:
        self._open.append((name, line))
        self._names.nesting = len(self._open)
        if (
            len(self._open) > MAX_BLOCKS
            or sum(block == "for" for block, _ in self._open) > MAX_LOOPS
        ):
            raise TemplateSyntaxProblem(
                "the template's blocks are nested too deeply; do this in a script", line
            )

    def _leave(self) -> None:
        self._open.pop()
        self._names.nesting = len(self._open)

    # --- the blocks
    # ----------------------------------------------------------------------------------------------

    def _if(self, tag: ExpressionParser, line: int) -> nodes.If:
        def test(tag: ExpressionParser, line: int) -> nodes.Expr:
            return operation("truth", tag.whole().node, line)

        self._enter("if", line)
        top = last = nodes.If(test(tag, line), [], [], [], lineno=line)
        last.body, end = self._body(("elif", "else", "endif"))
        while end and end.word == "elif":
            last = nodes.If(test(end, end.line), [], [], [], lineno=end.line)
            top.elif_.append(last)
            last.body, end = self._body(("elif", "else", "endif"))
        if end and end.word == "else":
            end.nothing_more()
            top.else_, end = self._body(("endif",))
        if end:
            end.nothing_more()
        self._leave()
        return top

    def _for(self, tag: ExpressionParser, line: int) -> list[nodes.Node]:
        key, name = "", tag.name("the name of the loop's variable")
        if tag.accept(","):
            key, name = name, tag.name("the name of the second variable")
        tag.expect_word("in")
        container = tag.whole()
        depth = sum(block == "for" for block, _ in self._open)
        self._enter("for", line)
        with self._names.loop((key, name), container.sources):
            body, end = self._body(("else", "endfor"))
        instead: list[nodes.Node] = []
        if end and end.word == "else":
            end.nothing_more()
            self._open[-1] = ("filter", line)  # `break` has no place in here, and text is counted
            instead, end = self._body(("endfor",))
        if end:
            end.nothing_more()
        self._leave()
        rounds = operation(
            "loop", container.node, line, nodes.Const(key), nodes.Const(name), nodes.Const(depth)
        )
        return [
            nodes.For(
                nodes.Name("_round", "store"), rounds, body, instead, None, False, lineno=line
            ),
            nodes.ExprStmt(operation("leave", nodes.Const(depth), line), lineno=line),
        ]

    def _set(self, tag: ExpressionParser, line: int, is_global: bool) -> nodes.Node:
        name = tag.name("the name of the variable")
        tag.expect("=")
        value = tag.whole()
        self._names.assign(name, value.sources)
        made = operation("set", value.node, line, nodes.Const(name), nodes.Const(is_global))
        return nodes.ExprStmt(made, lineno=line)

    def _filter(self, tag: ExpressionParser, line: int) -> nodes.Node:
        name, arguments = tag.filter_use()
        tag.nothing_more()
        self._enter("filter", line)
        body, end = self._body(("endfilter",))
        if end:
            end.nothing_more()
        self._leave()
        use = nodes.Filter(
            None, "tera:section", [nodes.Const(name)], arguments, None, None, lineno=line
        )
        return nodes.FilterBlock(body, use, lineno=line)

    def _jump(self, name: str, tag: ExpressionParser, line: int) -> nodes.Node:
        tag.nothing_more()
        around = next((block for block, _ in reversed(self._open) if block != "if"), "")
        if around != "for":
            raise TemplateSyntaxProblem(f"{{% {name} %}} stands outside of a loop", line)
        return nodes.Break(lineno=line) if name == "break" else nodes.Continue(lineno=line)
