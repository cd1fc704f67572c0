"""The operations of a compiled template, on Jinja's sandbox.

An undefined variable, or a filter that fails, is a value (`Failed`) that is false in conditions and
raises when printed, compared, calculated with or passed on, as in Tera.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from functools import partial
from typing import Any, NoReturn

from jinja2 import StrictUndefined, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import TemplateError
from engine.templating.calls import FUNCTIONS, TESTS, Call
from engine.templating.data_filters import DATA_FILTERS
from engine.templating.text_filters import TEXT_FILTERS
from engine.templating.values import (
    Budget,
    LimitReached,
    calculate,
    compare,
    contains,
    is_array,
    is_number,
    is_true,
    kind,
    member,
    number_json,
    pairs,
    plain,
    same,
    text_of,
)

ExtraFilter = Callable[..., Any]

FILTERS = {**TEXT_FILTERS, **DATA_FILTERS}
BUILT_IN_FILTERS = frozenset({*FILTERS, "default"})
_PLAIN = frozenset({str, int, float, bool, type(None), list, dict, tuple})
_ABSENT: Any = object()
_MAX_CANDIDATES = 200


class Failed:
    """A missing value, and the message that says why."""

    __slots__ = ("_why",)

    def __init__(self, why: Callable[[], TemplateError]) -> None:
        self._why = why

    def error(self) -> TemplateError:
        return self._why()


class TeraContext(Context):
    """Jinja's context, used only for one rendering's variables and its remaining budget."""

    budget: Budget
    now: datetime | None
    extra_filters: Mapping[str, ExtraFilter]
    data: Mapping[str, Any]
    # the first for `set` outside of loops, then one per loop
    scopes: list[dict[str, Any]]
    result: Any


def start(
    environment: TeraEnvironment,
    data: Mapping[str, Any],
    now: datetime | None,
    budget: Budget,
    extra_filters: Mapping[str, ExtraFilter],
) -> TeraContext:
    """The initial state of a rendering."""
    context = TeraContext(environment, {}, None, {})
    context.budget = budget
    context.now = now
    context.extra_filters = extra_filters
    context.data = data
    context.scopes = [{}]
    context.result = None
    return context


def _needed(value: Any) -> Any:
    if type(value) is Failed:
        raise value.error()
    return value


# --- variables
# --------------------------------------------------------------------------------------------------


@pass_context
def _path(context: TeraContext, parts: Sequence[Any]) -> Any:
    """The value at `a.b[c]`; `parts` are names and, where brackets hold a variable, values."""
    name = parts[0]
    value = _ABSENT
    for scope in reversed(context.scopes):
        if name in scope:
            value = scope[name]
            break
    else:
        value = context.data.get(name, _ABSENT)
    context.budget.spend(1)
    parent: Any = None
    for number, part in enumerate(parts):
        if number:
            if type(part) is not str:
                part = _index(part)
                if type(part) is Failed:
                    return part
            parent, value = value, member(value, part, _ABSENT)
        if value is _ABSENT:
            return Failed(partial(_undefined, context, [str(one) for one in parts], number, parent))
    if type(value) not in _PLAIN and not isinstance(value, Mapping):
        return plain(context.budget, value)
    return value


def _index(part: Any) -> Any:
    if type(part) is Failed or isinstance(part, str):
        return part
    if isinstance(part, int) and not isinstance(part, bool):
        return str(part)
    return Failed(
        lambda: TemplateError(f"brackets hold a string or a whole number, not {kind(part)}")
    )


def _undefined(context: TeraContext, parts: list[str], number: int, parent: Any) -> TemplateError:
    whole, reached = ".".join(parts)[:200], ".".join(parts[:number])[:200]
    sentence = f"'{whole}' is not defined"
    if number == 0:
        known = [name for scope in context.scopes for name in scope] + list(context.data)
        if longer := [name for name in known if name.startswith(parts[0] + "_")][:1]:
            return TemplateError(
                f"{sentence}; did you mean '{longer[0]}'? Hyphens of a step's name are written"
                " as '_'"
            )
    elif isinstance(parent, Mapping):
        known = [str(name) for name in parent]
    elif is_array(parent):
        return TemplateError(
            f"{sentence}: '{reached}' has {len(parent)} element{'s' * (len(parent) != 1)}"
        )
    else:
        return TemplateError(f"{sentence}: '{reached}' is {kind(parent)}")
    candidates = [name for name in known[:_MAX_CANDIDATES] if len(name) <= 100]
    if close := get_close_matches(parts[number][:100], candidates, 1):
        rest = [*parts[:number], close[0], *parts[number + 1 :]]
        return TemplateError(f"{sentence}; did you mean '{'.'.join(rest)[:200]}'?")
    return TemplateError(sentence)


@pass_context
def _given(context: TeraContext, value: Any) -> bool:
    return value is not None and type(value) is not Failed


@pass_context
def _set(context: TeraContext, value: Any, name: str, is_global: bool) -> None:
    context.scopes[0 if is_global else -1][name] = _needed(value)


@pass_context
def _loop(context: TeraContext, container: Any, key: str, name: str, depth: int) -> Iterator[None]:
    """Runs the iterations of a loop; variables do not survive an iteration."""
    items = _rounds(_needed(container), key)
    scopes = context.scopes
    del scopes[depth + 1 :]
    scope: dict[str, Any] = {}
    if items:
        scopes.append(scope)
    last = len(items) - 1
    for index, item in enumerate(items):
        context.budget.start_round()
        scope.clear()
        if key:
            scope[key], scope[name] = item
        else:
            scope[name] = item
        scope["loop"] = {
            "index": index + 1,
            "index0": index,
            "first": index == 0,
            "last": index == last,
        }
        yield
    del scopes[depth + 1 :]


def _rounds(container: Any, key: str) -> Sequence[Any]:
    if isinstance(container, Mapping):
        if not key:
            raise TemplateError(
                "a loop over an object needs two variables, as in {% for key, value in object %}"
            )
        return pairs(container)
    if not isinstance(container, (str, list, tuple)):
        raise TemplateError(
            f"a loop runs over an array, an object or a string, not over {kind(container)}"
        )
    if key:
        raise TemplateError(
            f"a loop with two variables runs over an object, not over {kind(container)}"
        )
    return container


@pass_context
def _leave(context: TeraContext, depth: int) -> None:
    """Called after a loop, even one left by `break`."""
    del context.scopes[depth + 1 :]


# --- operators
# --------------------------------------------------------------------------------------------------


@pass_context
def _truth(context: TeraContext, value: Any) -> bool:
    return type(value) is not Failed and is_true(value)


@pass_context
def _in(context: TeraContext, item: Any, container: Any) -> bool:
    return contains(context.budget, _needed(container), _needed(item))


@pass_context
def _compare(context: TeraContext, left: Any, operator: str, right: Any) -> bool:
    context.budget.spend(1)
    left, right = _needed(left), _needed(right)
    if operator == "==":
        return same(context.budget, left, right) is True
    if operator == "!=":
        return same(context.budget, left, right) is False
    return compare(operator, left, right)


@pass_context
def _math(context: TeraContext, value: Any, *rest: Any) -> Any:
    value = _needed(value)
    for operator, operand in zip(rest[::2], rest[1::2], strict=True):
        context.budget.spend(1)
        value = calculate(operator, value, _needed(operand))
    return value


@pass_context
def _concat(context: TeraContext, parts: list[Any]) -> str:
    texts = []
    for part in map(_needed, parts):
        if not isinstance(part, str) and not is_number(part):
            raise TemplateError(f"'~' joins strings and numbers, not {kind(part)}")
        texts.append(part if isinstance(part, str) else number_json(part))
    context.budget.allow_text(sum(map(len, texts)))
    return "".join(texts)


@pass_context
def _array(context: TeraContext, items: list[Any]) -> list[Any]:
    context.budget.spend(len(items))
    return [_needed(item) for item in items]


# --- filters, tests, functions
# ----------------------------------------------------------------------------------------


@pass_context
def _filter(context: TeraContext, value: Any, name: str, /, **arguments: Any) -> Any:
    for part in (value, *arguments.values()):
        if type(part) is Failed:
            return part
    context.budget.spend(1)
    try:
        if name in FILTERS:
            return FILTERS[name](Call(f"the filter '{name}'", arguments, context.budget), value)
        return plain(context.budget, context.extra_filters[name](value, **arguments))
    except LimitReached:
        raise
    except TemplateError as error:
        failure = error
        return Failed(lambda: failure)


@pass_context
def _section(context: TeraContext, value: str, name: str, /, **arguments: Any) -> str:
    """`{% filter name %}...{% endfilter %}`: prints the text of the section after the filter."""
    if name in ("safe", "default"):
        return value
    made: str = _print(context, _filter(context, value, name, **arguments))
    return made


@pass_context
def _test(context: TeraContext, value: Any, name: str, *arguments: Any) -> bool:
    if name in ("defined", "undefined"):
        return (type(value) is Failed) == (name == "undefined")
    test, _ = TESTS[name]
    return test(
        Call(f"the test '{name}'", {}, context.budget), _needed(value), *map(_needed, arguments)
    )


@pass_context
def _function(context: TeraContext, name: str, /, **arguments: Any) -> Any:
    given = {key: _needed(value) for key, value in arguments.items()}
    return FUNCTIONS[name](Call(f"the function '{name}'", given, context.budget, context.now))


# --- output
# --------------------------------------------------------------------------------------------------


@pass_context
def _print(context: TeraContext, value: Any) -> str:
    text = text_of(context.budget, _needed(value))
    context.budget.emit(len(text))
    return text


@pass_context
def _text(context: TeraContext, text: str) -> str:
    context.budget.spend(1)
    context.budget.emit(len(text))
    return text


@pass_context
def _result(context: TeraContext, value: Any) -> None:
    """The value of a text that is one expression, by its type."""
    context.result = plain(context.budget, _needed(value))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "tera:path": _path,
    "tera:given": _given,
    "tera:set": _set,
    "tera:loop": _loop,
    "tera:leave": _leave,
    "tera:truth": _truth,
    "tera:in": _in,
    "tera:compare": _compare,
    "tera:math": _math,
    "tera:concat": _concat,
    "tera:array": _array,
    "tera:filter": _filter,
    "tera:section": _section,
    "tera:test": _test,
    "tera:function": _function,
    "tera:print": _print,
    "tera:text": _text,
    "tera:result": _result,
}


class TeraEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with only our operations.

    The optimizer is off: it computes constants while compiling, so a bomb would go off during
    validation. The sandbox's own checks are a second line of defence after the parser.
    """

    context_class = TeraContext
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)
    intercepted_unops = frozenset(ImmutableSandboxedEnvironment.default_unop_table)

    def __init__(self) -> None:
        super().__init__(optimized=False, autoescape=False, undefined=StrictUndefined, cache_size=0)
        self.globals = {}
        self.tests = {}
        self.filters = dict(OPERATIONS)

    def getattr(self, obj: Any, attribute: str) -> NoReturn:
        raise TemplateError("templates read keys and indices, not attributes")

    def getitem(self, obj: Any, argument: Any) -> NoReturn:
        raise TemplateError("templates read keys and indices, not attributes")

    def call(self, *arguments: Any, **keywords: Any) -> NoReturn:
        raise TemplateError("values cannot be called in a template")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> NoReturn:
        raise TemplateError(f"'{operator}' is no operator of templates")

    def call_unop(self, context: Context, operator: str, arg: Any) -> NoReturn:
        raise TemplateError(f"'{operator}' is no operator of templates")
