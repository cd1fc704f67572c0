"""Renders templates to text, values, truth values or lists. The package's only public module."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from threading import Lock
from types import TracebackType
from typing import Any

from jinja2 import Template
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.exceptions import TemplateSyntaxError

from engine.errors import TemplateError
from engine.templating.calls import NO_NOW
from engine.templating.grammar import MARKER
from engine.templating.lowering import understand
from engine.templating.mentions import References, Splice
from engine.templating.operations import is_true, text_of
from engine.templating.runtime import BUILT_IN_FILTERS, TeraEnvironment
from engine.templating.values import (
    DEFAULT,
    TAG_PRICE,
    WHITESPACE,
    Budget,
    ExtraFilter,
    LimitReached,
    RenderLimits,
    TeraContext,
    kind,
    plain,
    start,
)

MAX_ITEMS = 10_000  # of a `for_each`
OPTIONAL_FILTERS = frozenset({"vals"})  # extra filters of some callers, see `filters=`
_MAX_NESTING = 50  # of lists and maps in an author's value
_CACHE_CHARS = 1_000_000
_TAG = re.compile(r"\{[{%]")
_END = {"{{": "}}", "{%": "%}"}
_FILE_NAME = "<template>"
_FALSE_TEXTS = frozenset({"", "false", "0", "null", "none"})
_SECRETS = frozenset({"secret", "secrets"})
_NO_FILTERS: Mapping[str, ExtraFilter] = {}
# Python's errors for lack of stack, memory or a representable value; operations raise their own.
_MISHAPS = (
    RecursionError,
    MemoryError,
    ArithmeticError,
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    SyntaxError,
)

_ENVIRONMENT = TeraEnvironment()


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A compiled template. `around` is the white space around a single expression, else None."""

    root: Callable[[TeraContext], Iterator[str]]
    template: Template
    lines: int
    around: tuple[str, str] | None
    references: References
    splices: tuple[Splice, ...]
    lent_filters: frozenset[str]
    functions: frozenset[str]
    prints_text: bool


class _Cache:
    """The most recently used templates, limited by total length."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._size = capacity, 0
        self._entries: OrderedDict[str, _Compiled] = OrderedDict()
        self._lock = Lock()

    def get(self, text: str) -> _Compiled:
        with self._lock:
            found = self._entries.get(text)
            if found is not None:
                self._entries.move_to_end(text)
                return found
        made = _compile(text)
        with self._lock:
            if text not in self._entries:
                self._entries[text] = made
                self._size += len(text) + 500
            while self._size > self._capacity:
                old, _ = self._entries.popitem(last=False)
                self._size -= len(old) + 500
        return made


def _compile(text: str) -> _Compiled:
    try:
        found = understand(text)
        found.template.set_environment(_ENVIRONMENT)
        code = _ENVIRONMENT.compile(found.template, filename=_FILE_NAME)
        template = Template.from_code(_ENVIRONMENT, code, {})
    except TemplateSyntaxError as problem:
        error = TemplateError(problem.message or "")
        raise _located(text.count("\n") + 1, problem.lineno, error) from None
    except (RecursionError, MemoryError):
        raise TemplateError("the template is nested too deeply") from None
    except (JinjaError, *_MISHAPS):
        raise TemplateError("the template cannot be understood") from None
    return _Compiled(
        template.root_render_func,
        template,
        text.count("\n") + 1,
        found.around,
        found.references,
        found.splices,
        found.filters - BUILT_IN_FILTERS,
        found.functions,
        found.prints_text,
    )


_CACHE = _Cache(_CACHE_CHARS)


def price(text: str) -> int:
    """The cost of parsing a template: the length of its tags, plus a constant per tag."""
    if len(text) > DEFAULT.template_bytes:
        return TAG_PRICE  # refused for its length alone
    found, at = TAG_PRICE, 0
    while True:
        begin = _TAG.search(text, at)
        end = text.find(_END[begin[0]], begin.end()) if begin else -1
        if begin is None or end < 0:
            return found
        found += end - begin.start() + TAG_PRICE
        at = end + 2


def _is_plain(text: str) -> bool:
    return "{" not in text or MARKER.search(text) is None


def _compiled(text: str, filters: Collection[str], limits: RenderLimits) -> _Compiled:
    if len(text) > limits.template_bytes or (
        not text.isascii() and len(text.encode("utf-8", "surrogatepass")) > limits.template_bytes
    ):
        raise TemplateError(
            f"a template may be {limits.template_bytes} bytes long; read larger text from a file"
        )
    compiled = _CACHE.get(text)
    for name in compiled.lent_filters:
        if name not in filters:
            raise TemplateError(_unknown_filter(name))
    return compiled


def _unknown_filter(name: str) -> str:
    if name in OPTIONAL_FILTERS:
        return f"the filter '{name}' is not available here"
    close = get_close_matches(name[:40], BUILT_IN_FILTERS, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    return f"there is no filter '{name[:40]}'{hint}"


def _located(lines: int, line: int, error: TemplateError) -> TemplateError:
    message = f"line {line}: {error}" if lines > 1 and line else str(error)
    return LimitReached(message) if isinstance(error, LimitReached) else TemplateError(message)


def _line(compiled: _Compiled, traceback: TracebackType | None) -> int:
    """The template's line that the compiled code was executing."""
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == _FILE_NAME:
            return compiled.template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return 0


def _run(compiled: _Compiled, context: TeraContext) -> str:
    try:
        return "".join(compiled.root(context))
    except TemplateError as error:
        raise _located(compiled.lines, _line(compiled, error.__traceback__), error) from None
    except (RecursionError, MemoryError):
        raise TemplateError("the template needs more memory than it may have") from None
    except (JinjaError, *_MISHAPS) as error:
        message = TemplateError(f"the template fails ({type(error).__name__})")
        raise _located(compiled.lines, _line(compiled, error.__traceback__), message) from None


def render(
    text: str,
    context: Mapping[str, Any],
    *,
    now: datetime | None = None,
    limits: RenderLimits = DEFAULT,
    filters: Mapping[str, ExtraFilter] = _NO_FILTERS,
) -> str:
    """The rendered text. `filters` adds filters such as `vals` for this rendering."""
    if _is_plain(text):
        return text
    compiled = _compiled(text, filters, limits)
    state = start(_ENVIRONMENT, context, now, Budget(limits), filters)
    written = _run(compiled, state)
    if compiled.around is None:
        return written
    value = text_of(state.budget, state.result)
    state.budget.emit(len(value))
    return compiled.around[0] + value + compiled.around[1]


def evaluate(
    text: str,
    context: Mapping[str, Any],
    *,
    now: datetime | None = None,
    limits: RenderLimits = DEFAULT,
    filters: Mapping[str, ExtraFilter] = _NO_FILTERS,
) -> Any:
    """The value of a text that is one `{{ expression }}`, with its type, as a plain copy; else the
    rendered text."""
    return text if _is_plain(text) else _evaluated(text, context, now, Budget(limits), filters)


def _evaluated(
    text: str,
    context: Mapping[str, Any],
    now: datetime | None,
    budget: Budget,
    filters: Mapping[str, ExtraFilter],
) -> Any:
    compiled = _compiled(text, filters, budget.limits)
    state = start(_ENVIRONMENT, context, now, budget, filters)
    written = _run(compiled, state)
    return written if compiled.around is None else state.result


def render_value(
    value: Any,
    context: Mapping[str, Any],
    *,
    now: datetime | None = None,
    limits: RenderLimits = DEFAULT,
    filters: Mapping[str, ExtraFilter] = _NO_FILTERS,
) -> Any:
    """An author's value with every string in it evaluated. Values from the context are not
    evaluated again.

    The limits apply to the value as a whole: a thousand bombs take no longer than one.
    """
    budget, known = Budget(limits), set[str]()

    def walk(value: Any, depth: int) -> Any:
        if isinstance(value, str):
            if _is_plain(value):
                return value
            budget.begin(0 if value in known else price(value))
            known.add(value)
            return _evaluated(value, context, now, budget, filters)
        if depth > _MAX_NESTING:
            raise TemplateError(f"a value may be nested {_MAX_NESTING} deep")
        if isinstance(value, Mapping):
            return {str(key): walk(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [walk(item, depth + 1) for item in value]
        return plain(budget, value)

    return walk(value, 0)


def is_true_text(
    text: str,
    context: Mapping[str, Any],
    *,
    now: datetime | None = None,
    limits: RenderLimits = DEFAULT,
    filters: Mapping[str, ExtraFilter] = _NO_FILTERS,
) -> bool:
    """The result of `when`. A text without braces is true unless it is false, 0, null or none."""
    value = evaluate(text, context, now=now, limits=limits, filters=filters)
    if isinstance(value, str):
        return value.strip(WHITESPACE).lower() not in _FALSE_TEXTS
    return is_true(value)


def items(
    value: str | Sequence[Any],
    context: Mapping[str, Any],
    *,
    now: datetime | None = None,
    limits: RenderLimits = DEFAULT,
    filters: Mapping[str, ExtraFilter] = _NO_FILTERS,
) -> list[Any]:
    """The items of `for_each`: an array as it is, or text that parses as a JSON array."""
    try:
        found = render_value(value, context, now=now, limits=limits, filters=filters)
        if isinstance(found, str):
            found = _parsed(found)
    except TemplateError as error:
        raise TemplateError(f"for_each expression error: {error}") from None
    if not isinstance(found, list):
        raise TemplateError(f"for_each expression must evaluate to a JSON array, got {kind(found)}")
    if len(found) > MAX_ITEMS:
        raise TemplateError(f"for_each produced {len(found)} items (max {MAX_ITEMS})")
    return found


def _parsed(text: str) -> Any:
    """Parse rendered text as JSON. Messages omit the text because it may hold secrets."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno} column {error.colno}"
        if "[object]" in text or text.lstrip().startswith("["):
            where += "; pipe the value through json_encode()"
    except (ValueError, RecursionError):
        where = "a number is too long, or not JSON, or the nesting too deep"
    raise TemplateError(f"for_each template rendered to non-JSON: {where}")


def check(
    text: str, *, filters: Collection[str] = OPTIONAL_FILTERS, limits: RenderLimits = DEFAULT
) -> str | None:
    """What is wrong with the template's syntax, as one sentence, or None. Executes nothing.

    Authors' templates are rendered without a clock, so `now()` is wrong in all of them."""
    if _is_plain(text):
        return None
    try:
        compiled = _compiled(text, filters, limits)
    except TemplateError as error:
        return str(error)
    return NO_NOW if "now" in compiled.functions else None


def prints_text(text: str) -> bool:
    """Whether a template, whatever its values are, prints text of its own: as a condition, it is
    true."""
    if _is_plain(text):
        return bool(text.strip(WHITESPACE))
    try:
        return _compiled(text, BUILT_IN_FILTERS | OPTIONAL_FILTERS, DEFAULT).prints_text
    except TemplateError:
        return False


def is_of_secrets(text: str) -> bool:
    """Whether the text is one expression that reads secrets, and nothing else."""
    if _is_plain(text):
        return False
    compiled = _compiled(text, BUILT_IN_FILTERS | OPTIONAL_FILTERS, DEFAULT)
    names = compiled.references.names
    return compiled.around is not None and bool(names) and names <= _SECRETS


def references(text: str) -> References:
    """What the template reads. An unparsable template may read anything."""
    if _is_plain(text):
        return References()
    try:
        return _compiled(text, BUILT_IN_FILTERS | OPTIONAL_FILTERS, DEFAULT).references
    except TemplateError:
        return References(is_open=True)


def splices(text: str) -> tuple[Splice, ...]:
    """The tags that write values into the text, in order; none for an unparsable template."""
    if _is_plain(text):
        return ()
    try:
        return _compiled(text, BUILT_IN_FILTERS | OPTIONAL_FILTERS, DEFAULT).splices
    except TemplateError:
        return ()
