"""The pages of jobs and tasks: lists, graph, time line, live streams, buttons.

Belongs here: what people see of a job. Does not belong here: deciding or writing anything; a button
calls one service.
"""
