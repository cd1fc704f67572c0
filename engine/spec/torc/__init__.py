"""Unmodified Torc specification files (YAML, JSON, JSON5, KDL): read with places, expanded,
converted to our tasks.

Belongs here: the four notations, Torc's keys and messages, parameters, implied dependencies, the
conversion into `engine.spec.model`. Does not belong here: how the result runs (`engine.planner`,
`engine.workflow_actions`).
"""
