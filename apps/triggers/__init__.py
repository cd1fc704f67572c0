"""Triggers: what starts jobs without a person. Clocks, webhooks, event sources, ends of jobs.

Belongs here: one row for each trigger of a workspace, kept in step with its revision; what became
of every time it fired; the one service that fires. Does not belong here: the arithmetic of clocks
(engine.slots), reading YAML (engine.spec), and how a job starts (apps.jobs).
"""
