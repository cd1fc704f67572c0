"""Statements of the hot path: prepared on the server, on connections that linger with their thread.

Belongs here: how statements are sent. Does not belong here: their text.
"""
