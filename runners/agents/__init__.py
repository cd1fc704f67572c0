"""Speaks to language models: one question, one answer. Knows no conversation, no row and no tool.

The library behind it takes seconds to import: only `models` names it, inside functions.
"""
