"""Shared admin parts: badges, panels, typed forms, Markdown, the page policy, styles and scripts.

No models and no domain knowledge: this room only shows what it is given. HTML is marked safe here
and nowhere else.
"""
