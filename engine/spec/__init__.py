"""The workspace language: YAML files in, a frozen model or a list of problems out.

Belongs here: reading YAML with places, the model, the rules, checking input values against declared
fields, freezing definitions as JSON. Does not belong here: rendering templates (engine.templating),
files and paths on disk.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.spec.parser import load, select, select_specifications
    from engine.spec.reporting import report

__all__ = ["load", "report", "select", "select_specifications"]


def __getattr__(name: str) -> Any:
    """Imported when somebody asks: the parser is large, and most commands read no YAML."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "reporting" if name == "report" else "parser"
    return getattr(import_module(f"{__name__}.{home}"), name)
