"""Conversations with language models, as values: what is asked and answered, whether an answer
fits, what may be spent, and what happens next.

Not here: speaking to a provider (`runners.agents`), storing rows (`apps.agents`).
"""
