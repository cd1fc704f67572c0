"""Watching a job from a terminal: its log lines and the states of its steps, until all that it set
off has ended."""
