"""Strøm's templates: Tera 1.x on Jinja's sandbox.

Belongs here: Tera's grammar, values, filters, tests and functions, and the limits of a rendering.
Pure: the context and the time are arguments; only the time zone tables are read from the machine.
Does not belong here: which context a field has, and where secrets come from.

    grammar (Jinja's parser) -> lowering (a small tree of Jinja's nodes) -> Jinja's compiler
    -> runtime's operations
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.templating.mentions import References, Splice
    from engine.templating.rendering import (
        OPTIONAL_FILTERS,
        check,
        evaluate,
        is_of_secrets,
        items,
        price,
        prints_text,
        references,
        render,
        render_value,
        splices,
    )
    from engine.templating.rendering import is_true_text as is_true
    from engine.templating.values import DEFAULT, LimitReached, RenderLimits, context_name, has_tags

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
    "has_tags",
    "is_of_secrets",
    "is_true",
    "items",
    "price",
    "prints_text",
    "references",
    "render",
    "render_value",
    "splices",
]

# Jinja and all that stands on it are imported by the first use: short commands render nothing.
_HOMES = {"DEFAULT": "values", "LimitReached": "values", "RenderLimits": "values",
    "context_name": "values", "has_tags": "values",
    "References": "mentions", "Splice": "mentions"}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES.get(name, 'rendering')}")
    found = globals()[name] = getattr(home, "is_true_text" if name == "is_true" else name)
    return found
