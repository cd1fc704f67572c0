"""The workspace language: YAML files in, a frozen model or a list of problems out.

Belongs here: reading YAML with places, the model, the rules, checking input values against declared
fields, freezing definitions as JSON. Does not belong here: rendering templates (engine.templating),
files and paths on disk.
"""

from engine.spec.parser import load, select, select_specifications
from engine.spec.reporting import report

__all__ = ["load", "report", "select", "select_specifications"]
