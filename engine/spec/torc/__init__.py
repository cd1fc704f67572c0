"""Unmodified Torc specification files (YAML, JSON, JSON5, KDL): read with places, expanded,
converted to our tasks.

Belongs here: the four notations, Torc's keys and messages, parameters, implied dependencies, the
conversion into `engine.spec.model`. Does not belong here: how the result runs (`engine.planner`,
`engine.workflow_actions`).
"""

from engine.spec.torc.conversion import Converted, convert
from engine.spec.torc.document import is_candidate, is_specification, read

__all__ = ["Converted", "convert", "is_candidate", "is_specification", "read"]
