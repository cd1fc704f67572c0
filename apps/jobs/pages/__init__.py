"""The pages of jobs and tasks: lists, graph, timeline, live streams, buttons.

Belongs here: what people see of a job. Does not belong here: decisions and writes; a button calls
one service.
"""
