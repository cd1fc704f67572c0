"""Torc specification files (YAML, JSON, JSON5, KDL) as they are: read with places, expanded, turned
into our tasks.

Belongs here: the four notations, Torc's keys and sentences, parameters, implied dependencies, the
conversion into `engine.spec.model`. Does not: what the result does when it runs (`engine.planner`,
`engine.workflow_actions`).
"""

from engine.spec.torc.conversion import Converted, convert
from engine.spec.torc.document import is_candidate, is_specification, read

__all__ = ["Converted", "convert", "is_candidate", "is_specification", "read"]
