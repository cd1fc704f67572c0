"""Statements of the hot path: prepared on the server, on connections that linger with their thread.

Belongs here: how a statement is sent. Does not belong here: what any statement says.
"""
