"""Expressions of Tera, lowered to operations of the runtime.

Tera binds differently from Jinja, and so do we: a filter takes the whole arithmetic or
concatenation before it (`1 + a | abs` is `(1 + a) | abs`, `a ~ b | upper` is `(a ~ b) | upper`),
and behind a filter a further chain of operators forms a unit of its own (`a | length * 2 + 1` is `a
| length * (2 + 1)`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jinja2 import nodes

from engine.templating.lexer import Tag, TemplateSyntaxProblem, Token
from engine.templating.predicates import FUNCTIONS, REFUSED_FUNCTIONS, TESTS
from engine.templating.references import INERT_FILTERS, Path
from engine.templating.tags import KEYWORDS, Names, TagReader
from engine.templating.values import number_text

MAX_NESTING = 30  # of parentheses, brackets and arguments
MAX_DEPTH = 40  # of operations within operations
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}
_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
_MATH = ("+", "-", "*", "/", "%")
_NOWHERE: frozenset[Path] = frozenset()


def operation(name: str, value: nodes.Expr, line: int, *arguments: nodes.Expr) -> nodes.Filter:
    """A call of an operation of the runtime."""
    return nodes.Filter(value, f"tera:{name}", list(arguments), [], None, None, lineno=line)


@dataclass(frozen=True, slots=True)
class Expression:
    """`sources`: paths whose text may show up in the value. `shape`: what Tera's grammar asks about
    it."""

    node: nodes.Expr
    depth: int = 1
    sources: frozenset[Path] = _NOWHERE
    filter: str | None = None
    shape: str = "other"  # path, string, int, float, call, other


class ExpressionParser(TagReader):
    """Reads the expressions of one tag."""

    def __init__(self, tag: Tag, names: Names) -> None:
        super().__init__(tag, names)
        self._nesting = 0
        self._argument_values: list[Expression] = []

    # --- logic
    # ----------------------------------------------------------------------------------------------

    def whole(self) -> Expression:
        """The expression that fills the rest of the tag."""
        if self._peek() is None:
            raise self.fail(
                "the tag is empty; write {% raw %} around braces that belong to the text"
            )
        found = self._expression()
        if self._peek() is not None:
            raise self._leftover()
        return found

    def _leftover(self) -> TemplateSyntaxProblem:
        token = self._peek()
        if token is None or token.kind != "op":
            if token is not None and token.value in ("if", "else"):
                return self.fail(
                    "write {% if ... %}{% else %}{% endif %}: there is no 'if' within an expression"
                )
            return self._unexpected("an operator or the end of the tag")
        if token.value == "(":
            return self.fail("methods cannot be called; use a filter, as in {{ name | upper }}")
        if token.value == "~":
            return self.fail("'~' joins plain values; apply the filter first with {% set %}")
        if token.value == "::":
            return self.fail("macros are switched off; repeat the text, or compute it in a step")
        if token.value in _COMPARISONS:
            return self.fail("comparisons do not chain; join them with 'and'")
        if token.value == "+":
            return self.fail("'+' adds numbers; join text with '~'")
        return self._unexpected("an operator or the end of the tag")

    def _expression(self) -> Expression:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self.fail("the expression is nested too deeply; use {% set %} for its parts")
        found = self._chain("or", lambda: self._chain("and", self._negation))
        self._nesting -= 1
        return found

    def _chain(self, word: str, part: Callable[[], Expression]) -> Expression:
        parts = [part()]
        while self.accept(word, "path"):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        kind = nodes.Or if word == "or" else nodes.And
        line = self.line

        # balanced, for a long chain must not be deep
        def tree(some: list[Expression]) -> nodes.Expr:
            if len(some) == 1:
                return operation("truth", some[0].node, line)
            half = len(some) // 2
            return kind(tree(some[:half]), tree(some[half:]), lineno=line)

        return self._made(tree(parts), parts, extra=2 + len(parts).bit_length(), sources=_NOWHERE)

    def _negation(self) -> Expression:
        negated = False
        while self.accept("not", "path"):
            negated = not negated
        found = self._comparison()
        if not negated:
            return found
        return self._made(
            nodes.Not(operation("truth", found.node, self.line)), [found], 2, sources=_NOWHERE
        )

    def _comparison(self) -> Expression:
        left = self._operand()
        negated = self._is("not", kind="path") and self._is("in", 1, "path")
        self._at += negated
        if self.accept("in", "path"):
            right = self._operand()
            node: nodes.Expr = operation("in", left.node, self.line, right.node)
            node = nodes.Not(node, lineno=self.line) if negated else node
            return self._made(node, [left, right], 2, sources=_NOWHERE)
        token = self._peek()
        if token is None or token.kind != "op" or token.value not in _COMPARISONS:
            return left
        self._at += 1
        right = self._operand()
        made = operation("compare", left.node, token.line, nodes.Const(token.value), right.node)
        return self._made(made, [left, right], sources=_NOWHERE)

    def _made(
        self,
        node: nodes.Expr,
        parts: Sequence[Expression],
        extra: int = 1,
        sources: frozenset[Path] | None = None,
        name: str | None = None,
    ) -> Expression:
        """An expression made of others; refuses what would be too deep for Python's compiler."""
        depth = extra + max((part.depth for part in parts), default=0)
        if depth > MAX_DEPTH:
            raise self.fail("the expression is nested too deeply; use {% set %} for its parts")
        if sources is None:
            sources = _NOWHERE.union(*(part.sources for part in parts))
        return Expression(node, depth, sources, name)

    # --- values, operators and filters
    # ----------------------------------------------------------------------------

    def _operand(self) -> Expression:
        first = self._array() if self._is("[") else self._term()
        if self._is("~"):
            return self._filtered(self._concatenation(first))
        if first.shape == "string":
            return self._filtered(first)
        units, operators = [self._unit(first)], list[Token]()
        while (token := self._math_operator()) is not None:
            operators.append(token)
            units.append(self._unit(self._term()))
        return self._calculation(units, operators)

    def _math_operator(self) -> Token | None:
        token = self._peek()
        if token is None or token.kind != "op" or token.value not in _MATH:
            return None
        self._at += 1
        return token

    def _unit(self, first: Expression) -> Expression:
        """Values and operators up to a filter, and the filters behind them."""
        values, operators = [first], list[Token]()
        while (token := self._math_operator()) is not None:
            operators.append(token)
            values.append(self._term())
        return self._filtered(self._calculation(values, operators))

    def _calculation(self, values: list[Expression], operators: list[Token]) -> Expression:
        """`* / %` before `+ -`, each from left to right; one operation for a whole run, so that it
        is not deep."""
        if not operators:
            return values[0]
        products, sums = [values[0]], list[Token]()
        run: list[tuple[Token, Expression]] = []
        for operator, value in [*zip(operators, values[1:], strict=True), (None, None)]:
            if operator is not None and value is not None and operator.value in ("*", "/", "%"):
                run.append((operator, value))
                continue
            if run:
                products[-1] = self._run(products[-1], run)
                run = []
            if operator is not None and value is not None:
                sums.append(operator)
                products.append(value)
        return (
            self._run(products[0], list(zip(sums, products[1:], strict=True)))
            if sums
            else products[0]
        )

    def _run(self, first: Expression, rest: list[tuple[Token, Expression]]) -> Expression:
        arguments: list[nodes.Expr] = []
        for operator, value in rest:
            arguments += [nodes.Const(operator.value), value.node]
        made = operation("math", first.node, rest[0][0].line, *arguments)
        return self._made(made, [first, *(value for _, value in rest)], sources=_NOWHERE)

    def _concatenation(self, first: Expression) -> Expression:
        parts = [first]
        while self.accept("~"):
            parts.append(self._term())
        for part in parts:
            if part.shape == "other":
                raise self.fail(
                    "'~' joins strings, numbers and variables; use {% set %} for anything else"
                )
        # A written number prints as it is; one from the context keeps its `.0`.
        items = [
            (
                nodes.Const(number_text(part.node.value))
                if isinstance(part.node, nodes.Const) and part.shape in ("int", "float")
                else part.node
            )
            for part in parts
        ]
        return self._made(operation("concat", nodes.List(items), self.line), parts, 2)

    def _filtered(self, value: Expression) -> Expression:
        is_first = True
        while self.accept("|"):
            name, arguments = self.filter_use()
            parts = [value, *self._argument_values]
            if name == "default":
                if is_first:
                    value = self._default(value, arguments)
            elif name != "safe":
                use = nodes.Filter(
                    value.node,
                    "tera:filter",
                    [nodes.Const(name)],
                    arguments,
                    None,
                    None,
                    lineno=self.line,
                )
                value = self._made(
                    use, parts, name=name, sources=_NOWHERE if name in INERT_FILTERS else None
                )
            is_first = False
        return value

    def _default(self, value: Expression, arguments: list[nodes.Keyword]) -> Expression:
        """Only a variable can be undefined or null, and only the first filter can tell: so it is in
        Tera."""
        given = [keyword for keyword in arguments if keyword.key == "value"]
        if not given:
            raise self.fail("the filter 'default' needs the argument 'value'")
        if value.shape != "path":
            return value
        node = nodes.CondExpr(
            operation("given", value.node, self.line), value.node, given[0].value, lineno=self.line
        )
        return self._made(node, [value, *self._argument_values], 2)

    def filter_use(self) -> tuple[str, list[nodes.Keyword]]:
        """The name of a filter and its arguments."""
        name = self.name("the name of a filter")
        self._names.filters.add(name)
        return name, (
            self._arguments(f"the filter '{name}'") if self._is("(") else self._arguments("")
        )

    def _arguments(self, what: str) -> list[nodes.Keyword]:
        """`(a=1, b=2)`; nothing when there are no parentheses. Leaves the values in
        `_argument_values`."""
        keywords: dict[str, Expression] = {}
        if what:
            self.expect("(")
            while not self.accept(")"):
                token = self._peek()
                if token is None or token.kind != "path" or not self._is("=", 1):
                    raise self.fail(f"{what} takes its arguments by name, as in {_example(what)}")
                name = self.name("the name of an argument")
                self.expect("=")
                if name in keywords:
                    raise self.fail(f"{what} is given the argument '{name}' twice")
                keywords[name] = self._expression()
                if not self._is(")"):
                    self.expect(",")
        self._argument_values = list(keywords.values())
        return [nodes.Keyword(name, value.node) for name, value in keywords.items()]

    def _array(self) -> Expression:
        self.expect("[")
        items: list[Expression] = []
        while not self.accept("]"):
            items.append(self._expression())
            if not self._is("]"):
                self.expect(",")
        made = operation("array", nodes.List([item.node for item in items]), self.line)
        return self._made(made, items, 2)

    def _term(self) -> Expression:
        token = self._peek()
        if token is None:
            raise self._unexpected("a value")
        if token.kind == "op" and token.value == "(":
            self._at += 1
            inner = self._expression()
            self.expect(")")
            return (
                inner
                if inner.shape == "path"
                else Expression(inner.node, inner.depth, inner.sources, inner.filter)
            )
        if token.kind == "op" and token.value == "[":
            return self._array()
        if token.kind == "op" and token.value == "-":
            raise self.fail("'-' needs a number behind it or a value before it")
        if token.kind in ("op", "tail") or (token.value in KEYWORDS and token.kind == "path"):
            raise self._unexpected("a value")
        self._at += 1
        match token.kind:
            case "string":
                return Expression(nodes.Const(token.value), shape="string")
            case "int":
                return Expression(nodes.Const(int(token.value)), shape="int")
            case "float":
                return Expression(nodes.Const(float(token.value)), shape="float")
        if token.value in _BOOLEANS:
            return Expression(nodes.Const(_BOOLEANS[token.value]))
        if self._is("("):
            return self._call(token)
        return self._tested(self._path(token))

    def _call(self, token: Token) -> Expression:
        name = token.value
        if name in REFUSED_FUNCTIONS:
            raise self.fail(REFUSED_FUNCTIONS[name], token)
        if "." in name:
            raise self.fail(
                "methods cannot be called; use a filter, as in {{ name | upper }}", token
            )
        if name not in FUNCTIONS:
            known = ", ".join(sorted(FUNCTIONS))
            raise self.fail(f"there is no function '{name[:40]}'; functions are {known}", token)
        arguments = self._arguments(f"the function '{name}'")
        parts = self._argument_values
        node = nodes.Filter(
            nodes.Const(name), "tera:function", [], arguments, None, None, lineno=token.line
        )
        made = self._made(node, parts, sources=_NOWHERE)
        return Expression(made.node, made.depth, shape="call")

    def _path(self, token: Token) -> Expression:
        parts: list[nodes.Expr] = [nodes.Const(part) for part in token.value.split(".")]
        known: list[str] | None = token.value.split(".")
        prefix, inner = tuple(known or ()), list[Expression]()
        if prefix[0] == "__tera_context":
            raise self.fail(
                "__tera_context is switched off: it would print secrets; name the values you need",
                token,
            )
        while self.accept("["):
            index = self._index()
            inner.append(index)
            parts.append(index.node)
            is_known = isinstance(index.node, nodes.Const)
            if known is not None and is_known:
                known.append(str(index.node.value))  # type: ignore[attr-defined]  # a Const, by the line above
                prefix = tuple(known)
            else:
                known = None
            self.expect("]")
            tail = self._peek()
            if tail is not None and tail.kind == "tail":
                self._at += 1
                names = tail.value[1:].split(".")
                parts += [nodes.Const(name) for name in names]
                if known is not None:
                    known += names
                    prefix = tuple(known)
        sources = self._names.read(prefix)
        constants = [part.value for part in parts if isinstance(part, nodes.Const)]
        fixed = len(constants) == len(parts)
        way: nodes.Expr = nodes.Const(tuple(map(str, constants))) if fixed else nodes.List(parts)
        made = self._made(operation("path", way, token.line), inner)
        return Expression(made.node, made.depth, sources, shape="path")

    def _index(self) -> Expression:
        token = self._peek()
        if token is None or token.kind not in ("int", "string", "path") or token.value in KEYWORDS:
            raise self._unexpected("a number, a string or a variable")
        self._at += 1
        if token.kind != "path":
            return Expression(nodes.Const(token.value))
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self.fail("the expression is nested too deeply; use {% set %} for its parts")
        found = self._path(token)
        self._nesting -= 1
        return found

    def _tested(self, value: Expression) -> Expression:
        if not self.accept("is", "path"):
            return value
        negated = self.accept("not", "path")
        name = self.name("the name of a test")
        arguments: list[Expression] = []
        if self.accept("("):
            while not self.accept(")"):
                arguments.append(self._expression())
                if not self._is(")"):
                    self.expect(",")
        wanted = 0 if name in ("defined", "undefined") else TESTS.get(name, (None, -1))[1]
        if wanted < 0:
            known = ", ".join(sorted([*TESTS, "defined", "undefined"]))
            raise self.fail(f"there is no test '{name[:40]}'; tests are {known}")
        if len(arguments) != wanted:
            raise self.fail(
                f"the test '{name}' takes {wanted or 'no'} value{'s' * (wanted != 1)} in"
                " parentheses"
            )
        node: nodes.Expr = operation(
            "test",
            value.node,
            self.line,
            nodes.Const(name),
            *(argument.node for argument in arguments),
        )
        node = nodes.Not(node, lineno=self.line) if negated else node
        return self._made(node, [value, *arguments], 2, sources=_NOWHERE)


def _example(what: str) -> str:
    examples = {
        "default": "default(value='x')",
        "join": "join(sep=', ')",
        "replace": "replace(from='a', to='b')",
    }
    name = what.split("'")[1]
    return examples.get(name, f"{name}(name=value)")
