"""The values of one rendering: what it may spend, which JSON values it reaches by name, and its
variables.

An undefined variable, or a filter that fails, is a value (`Failed`) that is false in conditions and
raises when printed, compared, calculated with or passed on, as in Tera.

Messages name kinds, never values: a value may be a secret.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import partial
from typing import Any

from jinja2 import Environment, pass_context
from jinja2.runtime import Context

from engine.errors import TemplateError
from engine.look_alikes import twin

# What Unicode calls White_Space; `str.strip()` would also take the separators U+001C to U+001F.
WHITESPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680"
    + "".join(map(chr, range(0x2000, 0x200B)))
    + "\u2028\u2029\u202f\u205f\u3000"
)

ExtraFilter = Callable[..., Any]
SCALARS = (str, bool, int, float, type(None))
_PLAIN = frozenset({str, int, float, bool, type(None), list, dict, tuple})
_ABSENT: Any = object()
_MAX_CANDIDATES = 200


def has_tags(value: Any) -> bool:
    """Whether a value is a text with something for templates to do."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def context_name(step_name: str) -> str:
    """The name of a step in templates: `say-hello` is `say_hello`."""
    return step_name.replace("-", "_")


@dataclass(frozen=True, slots=True)
class RenderLimits:
    """Limits of one rendering. A step is roughly a microsecond of work: one operation, 32
    characters, one item."""

    template_bytes: int = 65_536
    output_chars: int = 1_000_000
    value_chars: int = 1_000_000  # the longest text that an operation may make
    loop_rounds: int = 100_000  # total of all loops
    steps: int = 600_000
    # the price of all templates in one value, a second of work; one alone may cost more
    tags: int = 150_000


DEFAULT = RenderLimits()
TAG_PRICE = 20  # parsing cost of a tag, besides its letters
MAX_DEPTH = 100  # of nested lists and maps that are walked


class LimitReached(TemplateError):
    """A template exceeds its limits; unlike other failures, the template cannot catch this."""


class Budget:
    """The remaining limits. Every operation of the runtime draws on them."""

    __slots__ = ("limits", "output_left", "rounds_left", "steps_left", "tags_left")

    def __init__(self, limits: RenderLimits) -> None:
        self.limits = limits
        self.steps_left = limits.steps
        self.rounds_left = limits.loop_rounds
        self.output_left = limits.output_chars
        self.tags_left = limits.tags

    def begin(self, price: int) -> None:
        """Start the next text of a value: it has its own output limit and shares the value's work
        limit."""
        if self.tags_left < 0:
            raise LimitReached(
                "there are too many templates in one value; make the value in a script"
            )
        self.tags_left -= price
        self.output_left = self.limits.output_chars

    def spend(self, steps: int) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise LimitReached("the template does too much work; do this in a script")

    def spend_text(self, chars: int) -> None:
        self.spend(1 + (chars >> 5))

    def start_round(self) -> None:
        self.rounds_left -= 1
        if self.rounds_left < 0:
            raise LimitReached(
                f"the template's loops run more than {self.limits.loop_rounds} times; do this in a"
                " script"
            )
        self.spend(4)

    def emit(self, chars: int) -> None:
        self.output_left -= chars
        if self.output_left < 0:
            raise LimitReached(
                f"the rendered text is longer than {self.limits.output_chars} characters"
            )

    def allow_text(self, chars: int) -> None:
        """Called before a text of this length is created."""
        if chars > self.limits.value_chars:
            raise LimitReached(
                f"the template makes a text longer than {self.limits.value_chars} characters"
            )
        self.spend_text(chars)


def kind(value: Any) -> str:
    """The JSON type with its article, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "an array"
        case Mapping():
            return "an object"
    return "not JSON"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_array(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def member(value: Any, key: str, absent: Any) -> Any:
    """`value.key` or `value[key]`: keys of objects and indices of arrays, never an attribute of a
    Python object."""
    if isinstance(value, Mapping):
        return value.get(key, absent)
    if (
        is_array(value)
        and key.isascii()
        and key.isdigit()
        and len(key) < 10
        and (key == "0" or key[0] != "0")
    ):
        index = int(key)
        return value[index] if index < len(value) else absent
    return absent


def pointed(value: Any, parts: Sequence[str], absent: Any) -> Any:
    """Follows keys and indices, see `path_parts`."""
    for part in parts:
        value = member(value, part, absent)
        if value is absent:
            return absent
    return value


def path_parts(path: str) -> tuple[str, ...]:
    """The parts of `a.b.0`; one that holds dots stands in double quotes."""
    parts: list[str] = []
    for number, piece in enumerate(path.split('"')):
        parts += [piece] if number % 2 else [part for part in piece.split(".") if part]
    return tuple(parts)


def plain(budget: Budget, value: Any, depth: int = 0) -> Any:
    """A deep copy of JSON types only, keys in their order."""
    if value is None or type(value) in SCALARS:
        if type(value) is float and not math.isfinite(value):
            raise TemplateError("a value is infinite or not a number, which JSON cannot hold")
        return value
    budget.spend(2)
    if depth > MAX_DEPTH:
        raise LimitReached(f"a value is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        budget.spend(len(value) >> 2)
        return {str(key): plain(budget, item, depth + 1) for key, item in value.items()}
    if is_array(value):
        budget.spend(len(value) >> 2)
        return [plain(budget, item, depth + 1) for item in value]
    return scalar(value)


def scalar(value: Any) -> Any:
    """The plain form of a subclass of a JSON scalar, such as a string enumeration."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    raise TemplateError(f"a value of type {type(value).__name__} is not JSON")


def pairs(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The entries of an object by key: Tera's objects are sorted."""
    return sorted(((str(key), item) for key, item in value.items()), key=lambda pair: pair[0])


# One rendering


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
    environment: Environment,
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


def needed(value: Any) -> Any:
    if type(value) is Failed:
        raise value.error()
    return value


# --- variables
# --------------------------------------------------------------------------------------------------


@pass_context
def value_at(context: TeraContext, parts: Sequence[Any]) -> Any:
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
    word, why = parts[number][:100], ""
    close = get_close_matches(word, candidates, 1)
    if not word.isascii():
        alike, why = twin(word, candidates)
        close = [alike] if alike else close
    if close:
        rest = [*parts[:number], close[0], *parts[number + 1 :]]
        return TemplateError(f"{sentence}; did you mean '{'.'.join(rest)[:200]}'? {why}".rstrip())
    return TemplateError(sentence)


@pass_context
def is_given(context: TeraContext, value: Any) -> bool:
    return value is not None and type(value) is not Failed


@pass_context
def set_variable(context: TeraContext, value: Any, name: str, is_global: bool) -> None:
    context.scopes[0 if is_global else -1][name] = needed(value)


@pass_context
def run_loop(
    context: TeraContext, container: Any, key: str, name: str, depth: int
) -> Iterator[None]:
    """Runs the iterations of a loop; variables do not survive an iteration."""
    items = _rounds(needed(container), key)
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
def leave_loop(context: TeraContext, depth: int) -> None:
    """Called after a loop, even one left by `break`."""
    del context.scopes[depth + 1 :]


@pass_context
def keep_result(context: TeraContext, value: Any) -> None:
    """The value of a text that is one expression, by its type."""
    context.result = plain(context.budget, needed(value))
