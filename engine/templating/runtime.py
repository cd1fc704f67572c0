"""The operations of a compiled template, on Jinja's sandbox; those on variables are in `values`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from jinja2 import StrictUndefined, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import TemplateError
from engine.templating.calls import FUNCTIONS, TESTS, Call
from engine.templating.data_filters import DATA_FILTERS
from engine.templating.operations import (
    calculate,
    compare,
    contains,
    is_true,
    number_json,
    same,
    text_of,
)
from engine.templating.text_filters import TEXT_FILTERS
from engine.templating.values import (
    Failed,
    LimitReached,
    TeraContext,
    is_given,
    is_number,
    keep_result,
    kind,
    leave_loop,
    needed,
    plain,
    run_loop,
    set_variable,
    value_at,
)

FILTERS = {**TEXT_FILTERS, **DATA_FILTERS}
BUILT_IN_FILTERS = frozenset({*FILTERS, "default"})


# --- operators
# --------------------------------------------------------------------------------------------------


@pass_context
def _truth(context: TeraContext, value: Any) -> bool:
    return type(value) is not Failed and is_true(value)


@pass_context
def _in(context: TeraContext, item: Any, container: Any) -> bool:
    return contains(context.budget, needed(container), needed(item))


@pass_context
def _compare(context: TeraContext, left: Any, operator: str, right: Any) -> bool:
    context.budget.spend(1)
    left, right = needed(left), needed(right)
    if operator == "==":
        return same(context.budget, left, right) is True
    if operator == "!=":
        return same(context.budget, left, right) is False
    return compare(operator, left, right)


@pass_context
def _math(context: TeraContext, value: Any, *rest: Any) -> Any:
    value = needed(value)
    for operator, operand in zip(rest[::2], rest[1::2], strict=True):
        context.budget.spend(1)
        value = calculate(operator, value, needed(operand))
    return value


@pass_context
def _concat(context: TeraContext, parts: list[Any]) -> str:
    texts = []
    for part in map(needed, parts):
        if not isinstance(part, str) and not is_number(part):
            raise TemplateError(f"'~' joins strings and numbers, not {kind(part)}")
        texts.append(part if isinstance(part, str) else number_json(part))
    context.budget.allow_text(sum(map(len, texts)))
    return "".join(texts)


@pass_context
def _array(context: TeraContext, items: list[Any]) -> list[Any]:
    context.budget.spend(len(items))
    return [needed(item) for item in items]


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
        Call(f"the test '{name}'", {}, context.budget), needed(value), *map(needed, arguments)
    )


@pass_context
def _function(context: TeraContext, name: str, /, **arguments: Any) -> Any:
    given = {key: needed(value) for key, value in arguments.items()}
    return FUNCTIONS[name](Call(f"the function '{name}'", given, context.budget, context.now))


# --- output
# --------------------------------------------------------------------------------------------------


@pass_context
def _print(context: TeraContext, value: Any) -> str:
    text = text_of(context.budget, needed(value))
    context.budget.emit(len(text))
    return text


@pass_context
def _text(context: TeraContext, text: str) -> str:
    context.budget.spend(1)
    context.budget.emit(len(text))
    return text


OPERATIONS: dict[str, Callable[..., Any]] = {
    "tera:path": value_at,
    "tera:given": is_given,
    "tera:set": set_variable,
    "tera:loop": run_loop,
    "tera:leave": leave_loop,
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
    "tera:result": keep_result,
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
