"""Strøm's templates: Tera 1.x on Jinja's sandbox.

Belongs here: Tera's grammar, values, filters, tests and functions, and the limits of a rendering.
Pure: the context and the time are arguments; only the time zone tables are read from the machine.
Does not belong here: which context a field has, and where secrets come from.

    grammar (Jinja's parser) -> lowering (a small tree of Jinja's nodes) -> Jinja's compiler
    -> runtime's operations
"""

from engine.templating.references import References, Splice
from engine.templating.rendering import (
    OPTIONAL_FILTERS,
    check,
    evaluate,
    items,
    price,
    references,
    render,
    render_value,
    splices,
)
from engine.templating.rendering import is_true_text as is_true
from engine.templating.values import DEFAULT, LimitReached, RenderLimits, context_name

__all__ = [
    "DEFAULT",
    "OPTIONAL_FILTERS",
    "LimitReached",
    "References",
    "RenderLimits",
    "Splice",
    "check",
    "context_name",
    "evaluate",
    "is_true",
    "items",
    "price",
    "references",
    "render",
    "render_value",
    "splices",
]
