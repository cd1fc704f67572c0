"""Templates as authors of Strøm write them: Tera 1.x, on Jinja's sandbox.

In here: reading Tera's grammar, its values, filters, tests and functions, and the limits of a
rendering. Pure: the context and the time are arguments, nothing is read from the machine but the
time zone tables. Not in here: which context belongs to which field, and where a secret comes from.

    grammar (Jinja's parser) -> lowering (a small tree of Jinja's nodes) -> Jinja's compiler
    -> runtime's operations
"""

from engine.templating.references import References, Splice, context_name
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
from engine.templating.values import DEFAULT, LimitReached, RenderLimits

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
