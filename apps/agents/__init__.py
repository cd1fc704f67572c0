"""Conversations of agent steps: their rows, their tools, and how they wait for others.

Not here: what happens next (`engine.agents`), speaking to models (`runners.agents`), the process
that does it (`workers.agents`).
"""
