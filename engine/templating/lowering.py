"""From Jinja's parse tree to the small, safe subset that we compile.

The result contains text, constants, lists, `and`, `or`, `not`, `if`, `for` and calls of the
runtime's own operations (as filters whose names no author can write). It never contains an
attribute access, a call of a value, or a Python operator: a template can do exactly what
`runtime.OPERATIONS` does. Nodes missing from the tables at the end of this module are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError

from engine.templating.arguments import OF_FILTERS, OF_FUNCTIONS, lack, refusal
from engine.templating.calls import FUNCTIONS, REFUSED_FUNCTIONS, TESTS
from engine.templating.grammar import NO_CONDITION, Tag, TeraParser, is_plain_name
from engine.templating.mentions import (
    VARIABLES,
    Names,
    References,
    Splice,
    enclosures,
    known_path,
    last_filter,
    steps_of,
)
from engine.templating.operations import I64_MAX, I64_MIN, number_text
from engine.templating.values import WHITESPACE, is_number

MAX_DEPTH = 40  # of operations within operations
_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">="}
_SUMS, _PRODUCTS = (nodes.Add, nodes.Sub), (nodes.Mul, nodes.Div, nodes.Mod)
_JOINED = "strings, numbers and variables"
_EXAMPLES = {
    "default": "default(value='x')",
    "join": "join(sep=', ')",
    "replace": "replace(from='a', to='b')",
}


@dataclass(frozen=True, slots=True)
class Understood:
    """A template to compile. `around` is the text around a lone `{{ expression }}`, whose value the
    template then leaves as its result."""

    template: nodes.Template
    around: tuple[str, str] | None
    references: References
    splices: tuple[Splice, ...]
    filters: frozenset[str]
    functions: frozenset[str]
    prints_text: bool  # around its tags, whatever the values are


def understand(text: str) -> Understood:
    """Raises TemplateSyntaxError; executes nothing."""
    parser = TeraParser(text)
    tree, lowering = parser.subparse(), _Lowering(text, parser.stream.tags)
    around: tuple[str, str] | None = None
    if lone := _lone(tree):
        expression, around = lone
        printed, line = lowering.printed(expression)[0], expression.lineno
        body: list[nodes.Node] = [nodes.ExprStmt(_operation("result", printed, line), lineno=line)]
    else:
        body = lowering.body(tree)
    names = lowering.names
    return Understood(
        nodes.Template(body, lineno=1),
        around,
        References(
            frozenset(path[0] for path in names.paths), frozenset(names.paths), needed=names.needed
        ),
        tuple(lowering.splices),
        frozenset(names.filters),
        frozenset(names.functions),
        around is None and any(map(_prints_text, tree)),
    )


def _prints_text(node: nodes.Node) -> bool:
    parts = node.nodes if isinstance(node, nodes.Output) else ()
    return any(
        isinstance(part, nodes.TemplateData) and bool(part.data.strip(WHITESPACE)) for part in parts
    )


def _lone(tree: Sequence[nodes.Node]) -> tuple[nodes.Expr, tuple[str, str]] | None:
    """The expression that is the whole template, and the blank text before and after it."""
    children = tree[0].nodes if len(tree) == 1 and isinstance(tree[0], nodes.Output) else []
    texts = [one.data if isinstance(one, nodes.TemplateData) else None for one in children]
    if texts.count(None) != 1 or any(text and text.strip(WHITESPACE) for text in texts):
        return None
    at = texts.index(None)
    return children[at], ("".join(filter(None, texts[:at])), "".join(filter(None, texts[at:])))


def _operation(name: str, value: nodes.Expr, line: int, *arguments: nodes.Expr) -> nodes.Filter:
    """A call of an operation of the runtime."""
    return nodes.Filter(value, f"tera:{name}", list(arguments), [], None, None, lineno=line)


def _wrong(node: nodes.Node, message: str) -> TemplateSyntaxError:
    return TemplateSyntaxError(message, node.lineno)


class _Lowering:
    """One walk over one tree, in the order of the text."""

    def __init__(self, text: str, tags: list[Tag]) -> None:
        self.names = Names()
        self.splices: list[Splice] = []
        self._text = text
        self._tags = zip(
            tags, enclosures(text, [(tag.start, tag.end) for tag in tags]), strict=True
        )
        self._blocks: list[str] = []  # around the current place

    def body(self, tree: Iterable[nodes.Node]) -> list[nodes.Node]:
        made: list[nodes.Node] = []
        for node in tree:
            if type(node) not in _STATEMENTS:
                raise _wrong(node, "this tag is not allowed here")
            made += _STATEMENTS[type(node)](self, node)
        return made

    def _inner(self, block: str, tree: Iterable[nodes.Node]) -> list[nodes.Node]:
        self._blocks.append(block)
        self.names.nesting += 1
        made = self.body(tree)
        self.names.nesting -= 1
        self._blocks.pop()
        return made

    def _output(self, node: nodes.Output) -> list[nodes.Node]:
        return [self._text_or_value(child) for child in node.nodes]

    def _text_or_value(self, node: nodes.Expr) -> nodes.Output:
        line = node.lineno
        if not isinstance(node, nodes.TemplateData):
            printed, line = self.printed(node)
            node = _operation("print", printed, line)
        elif "for" in self._blocks or "filter" in self._blocks:
            # A loop may write the text many times, so it is counted on writing.
            node = _operation("text", nodes.Const(node.data), line)
        return nodes.Output([node], lineno=line)

    def printed(self, node: nodes.Expr) -> tuple[nodes.Expr, int]:
        """The expression of the next tag that prints, and the line of that tag."""
        tag, enclosed = next((tag, around) for tag, around in self._tags if tag.prints)
        value, sources = self.expression(node), self.names.shown(node)
        if sources:
            written, end = self._text[tag.start : tag.end], tag.end
            around = self._text[max(0, tag.start - 1) : tag.start] + self._text[end : end + 1]
            text, last = " ".join(written.split()), last_filter(node)
            self.splices.append(Splice(text, tag.line, sources, last, around, enclosed))
        return value, tag.line

    def _if(self, node: nodes.If) -> list[Any]:
        test: Any = node.test
        made = nodes.If(self._truth(test, 0), [], [], [], lineno=node.lineno)
        made.body = self._inner("if", node.body)
        made.elif_ = [one for part in node.elif_ for one in self._if(part)]
        made.else_ = self._inner("if", node.else_)
        return [made]

    def _for(self, node: nodes.For) -> list[nodes.Node]:
        target: Any = node.target
        iterated: Any = node.iter
        names = [name.name for name in target.items]
        container, sources = self.expression(iterated), self.names.shown(iterated)
        depth, line = self._blocks.count("for"), node.lineno
        with self.names.loop(names, sources):
            body = self._inner("for", node.body)
        # `break` has no place in here, and text is counted.
        instead = self._inner("filter", node.else_)
        way = (names[0] if len(names) > 1 else "", names[-1], depth)
        rounds = _operation("loop", container, line, *map(nodes.Const, way))
        made = nodes.For(
            nodes.Name("_round", "store"), rounds, body, instead, None, False, lineno=line
        )
        leave = _operation("leave", nodes.Const(depth), line)
        return [made, nodes.ExprStmt(leave, lineno=line)]

    def _assign(self, node: nodes.Assign) -> list[nodes.Node]:
        target: Any = node.target
        assigned: Any = node.node
        is_global = isinstance(target, nodes.NSRef)
        name = target.attr if is_global else target.name
        value = self.expression(assigned)
        self.names.assign(name, self.names.shown(assigned))
        made = _operation("set", value, node.lineno, nodes.Const(name), nodes.Const(is_global))
        return [nodes.ExprStmt(made, lineno=node.lineno)]

    def _filter_block(self, node: nodes.FilterBlock) -> list[nodes.Node]:
        use, line = node.filter, node.lineno
        if use.node is not None:
            raise _wrong(node, "a filter section takes one filter")
        self.names.filters.add(use.name)
        arguments = self._arguments(use, f"the filter '{use.name}'", OF_FILTERS, 0)
        body, name = self._inner("filter", node.body), [nodes.Const(use.name)]
        made = nodes.Filter(None, "tera:section", name, arguments, None, None, lineno=line)
        return [nodes.FilterBlock(body, made, lineno=line)]

    def _jump(self, node: nodes.Break | nodes.Continue) -> list[nodes.Node]:
        around = next((block for block in reversed(self._blocks) if block != "if"), "")
        if around != "for":
            name = type(node).__name__.lower()
            raise _wrong(node, f"{{% {name} %}} is outside of a loop")
        return [node]

    def expression(self, node: nodes.Expr, depth: int = 0) -> nodes.Expr:
        """`depth`: of the operations around this one; too deep for Python's compiler is refused."""
        if depth >= MAX_DEPTH:
            raise _wrong(node, "the expression is nested too deeply; use {% set %} for its parts")
        if type(node) not in _EXPRESSIONS:
            raise _wrong(node, _REFUSED.get(type(node), "this is not allowed in an expression"))
        return _EXPRESSIONS[type(node)](self, node, depth)

    def _truth(self, node: nodes.Expr, depth: int) -> nodes.Expr:
        with self.names.tolerating(isinstance(node, (nodes.Filter, *VARIABLES))):
            made = self.expression(node, depth)
        return _operation("truth", made, node.lineno)

    def _constant(self, node: nodes.Const, depth: int) -> nodes.Expr:
        value = node.value
        if isinstance(value, float) and not math.isfinite(value):
            raise _wrong(node, "a number has too many digits")
        if isinstance(value, int) and not I64_MIN <= value <= I64_MAX:
            raise _wrong(node, "a whole number does not fit into 64 bits")
        return node

    def _list(self, node: nodes.List, depth: int) -> nodes.Expr:
        items = [self.expression(item, depth + 2) for item in node.items]
        return _operation("array", nodes.List(items), node.lineno)

    def _logic(self, node: nodes.And | nodes.Or, depth: int) -> nodes.Expr:
        parts, kind = list[nodes.Expr](), type(node)
        left: nodes.Expr = node
        while isinstance(left, kind):
            parts.append(left.right)
            left = left.left
        parts.append(left)
        depth += 2 + len(parts).bit_length()
        tests = [self._truth(part, depth) for part in reversed(parts)]

        # balanced, for a long chain must not be deep
        def tree(some: list[nodes.Expr]) -> nodes.Expr:
            half = len(some) // 2
            if not half:
                return some[0]
            return kind(tree(some[:half]), tree(some[half:]), lineno=node.lineno)

        return tree(tests)

    def _not(self, node: nodes.Not, depth: int) -> nodes.Expr:
        is_test = isinstance(node.node, nodes.Test)  # whose value is a boolean already
        made = (self.expression if is_test else self._truth)(node.node, depth + 2)
        return nodes.Not(made, lineno=node.lineno)

    def _comparison(self, node: nodes.Compare, depth: int) -> nodes.Expr:
        if len(node.ops) > 1:
            raise _wrong(node, "comparisons do not chain; join them with 'and'")
        sign, line = node.ops[0].op, node.lineno
        left = self.expression(node.expr, depth + 2)
        right = self.expression(node.ops[0].expr, depth + 2)
        if sign in _SIGNS:
            return _operation("compare", left, line, nodes.Const(_SIGNS[sign]), right)
        made = _operation("in", left, line, right)
        return nodes.Not(made, lineno=line) if sign == "notin" else made

    def _math(self, node: nodes.BinExpr, depth: int) -> nodes.Expr:
        """One operation for a whole chain from left to right, so that it does not nest."""
        group = _SUMS if isinstance(node, _SUMS) else _PRODUCTS
        first, rest = node.left, [node]
        while isinstance(first, group):
            rest.append(first)
            first = first.left
        made, arguments = self.expression(first, depth + 1), list[nodes.Expr]()
        for part in reversed(rest):
            arguments += [nodes.Const(part.operator), self.expression(part.right, depth + 1)]
        return _operation("math", made, node.lineno, *arguments)

    def _concatenation(self, node: nodes.Concat, depth: int) -> nodes.Expr:
        items: list[nodes.Expr] = []
        for part in node.nodes:
            while isinstance(part, nodes.Filter) and part.name == "safe" and part.node:
                part = part.node
            value: Any = part.value if isinstance(part, nodes.Const) else ""
            if not isinstance(part, (nodes.Const, nodes.Call, *VARIABLES)) or isinstance(
                value, bool
            ):
                raise _wrong(node, f"'~' joins {_JOINED}; use {{% set %}} for anything else")
            made = self.expression(part, depth + 2)
            # A written number prints as it is; one from the context keeps its `.0`.
            items.append(nodes.Const(number_text(value)) if is_number(value) else made)
        return _operation("concat", nodes.List(items), node.lineno)

    def _filter(self, node: nodes.Filter, depth: int) -> nodes.Expr:
        """As in Tera, only a variable can be undefined or null, and only the first filter sees
        it."""
        name, inner, line = node.name, node.node, node.lineno
        assert inner is not None, "only that of a section has no value before it"
        self.names.filters.add(name)
        is_given = name == "default" and isinstance(inner, VARIABLES)
        with self.names.tolerating(is_given or self.names.tolerates):
            value = self.expression(inner, depth + 1 + (name == "default"))
        arguments = self._arguments(node, f"the filter '{name}'", OF_FILTERS, depth + 1)
        if name == "default" and not isinstance(inner, nodes.Filter):
            given = [keyword.value for keyword in arguments if keyword.key == "value"]
            if not given:
                raise _wrong(node, "the filter 'default' needs the argument 'value'")
            if isinstance(inner, VARIABLES):
                test = _operation("given", value, line)
                return nodes.CondExpr(test, value, given[0], lineno=line)
        if name in ("default", "safe"):
            return value
        named = [nodes.Const(name)]
        return nodes.Filter(value, "tera:filter", named, arguments, None, None, lineno=line)

    def _arguments(
        self,
        node: nodes.Filter | nodes.Call,
        what: str,
        known: Mapping[str, tuple[str, ...]],
        depth: int,
    ) -> list[nodes.Keyword]:
        name = what.split("'")[1]
        if node.args or node.dyn_args or node.dyn_kwargs:
            example = _EXAMPLES.get(name, f"{name}(name=value)")
            raise _wrong(node, f"{what} takes its arguments by name, as in {example}")
        made: dict[str, nodes.Keyword] = {}
        given: list[Any] = node.kwargs
        for keyword in given:
            key = keyword.key
            if key in made:
                raise _wrong(node, f"{what} is given the argument '{key[:40]}' twice")
            if not is_plain_name(key):
                raise _wrong(node, f"'{key[:40]}' cannot be the name of an argument")
            if wrong := refusal(what, key, known.get(name, ())):
                raise _wrong(node, wrong)
            made[key] = nodes.Keyword(key, self.expression(keyword.value, depth))
        if missing := lack(name, what, made):
            raise _wrong(node, missing)
        return list(made.values())

    def _test(self, node: nodes.Test, depth: int) -> nodes.Expr:
        name = node.name
        wanted = 0 if name in ("defined", "undefined") else TESTS.get(name, (None, -1))[1]
        if wanted < 0:
            known = ", ".join(sorted([*TESTS, "defined", "undefined"]))
            raise _wrong(node, f"there is no test '{name[:40]}'; tests are {known}")
        if len(node.args) != wanted or node.kwargs or node.dyn_args or node.dyn_kwargs:
            values = f"{wanted or 'no'} value{'s' * (wanted != 1)}"
            raise _wrong(node, f"the test '{name}' takes {values} in parentheses")
        with self.names.tolerating(name in ("defined", "undefined")):
            value, *arguments = (self.expression(one, depth + 2) for one in (node.node, *node.args))
        return _operation("test", value, node.lineno, nodes.Const(name), *arguments)

    def _call(self, node: nodes.Call, depth: int) -> nodes.Expr:
        name = node.node.name if isinstance(node.node, nodes.Name) else "."
        if name in REFUSED_FUNCTIONS:
            raise _wrong(node, REFUSED_FUNCTIONS[name])
        if "." in name:
            raise _wrong(node, "methods cannot be called; use a filter, as in {{ name | upper }}")
        if name not in FUNCTIONS:
            known = ", ".join(sorted(FUNCTIONS))
            raise _wrong(node, f"there is no function '{name[:40]}'; functions are {known}")
        self.names.functions.add(name)
        arguments = self._arguments(node, f"the function '{name}'", OF_FUNCTIONS, depth + 1)
        return nodes.Filter(nodes.Const(name), "tera:function", [], arguments, None, None)

    def _path(self, node: nodes.Expr, depth: int) -> nodes.Expr:
        """A variable and its path; values in brackets are read, but not printed."""
        steps = steps_of(node)
        known = known_path(steps)
        if known[0] == "__tera_context":
            raise _wrong(
                node,
                "__tera_context is switched off: it would print secrets; name the values you need",
            )
        self.names.read(known)
        way: nodes.Expr = nodes.Const(known)
        if len(known) < len(steps):
            way = nodes.List(
                [
                    nodes.Const(step) if isinstance(step, str) else self.expression(step, depth + 1)
                    for step in steps
                ]
            )
        return _operation("path", way, node.lineno)


_STATEMENTS: dict[type[nodes.Node], Callable[[_Lowering, Any], list[nodes.Node]]] = {
    nodes.Output: _Lowering._output,
    nodes.If: _Lowering._if,
    nodes.For: _Lowering._for,
    nodes.Assign: _Lowering._assign,
    nodes.FilterBlock: _Lowering._filter_block,
    nodes.Break: _Lowering._jump,
    nodes.Continue: _Lowering._jump,
}
_EXPRESSIONS: dict[type[nodes.Node], Callable[[_Lowering, Any, int], nodes.Expr]] = {
    nodes.Const: _Lowering._constant,
    nodes.List: _Lowering._list,
    nodes.And: _Lowering._logic,
    nodes.Or: _Lowering._logic,
    nodes.Not: _Lowering._not,
    nodes.Compare: _Lowering._comparison,
    nodes.Concat: _Lowering._concatenation,
    nodes.Filter: _Lowering._filter,
    nodes.Test: _Lowering._test,
    nodes.Call: _Lowering._call,
    **dict.fromkeys((*_SUMS, *_PRODUCTS), _Lowering._math),
    **dict.fromkeys(VARIABLES, _Lowering._path),
}
_REFUSED: dict[type[nodes.Node], str] = {
    nodes.CondExpr: NO_CONDITION,
    nodes.Neg: "'-' needs a number after it or a value before it",
    nodes.Pos: "a value was expected, not '+'",
    nodes.Tuple: "commas are allowed between arguments and in [lists] only",
}
