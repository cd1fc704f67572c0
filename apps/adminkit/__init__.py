"""Shared admin parts: badges, panels, typed forms, Markdown, the page policy, look and behaviour of
every page.

No models and no domain knowledge: this room knows neither jobs nor workspaces, it only shows what
it is given. HTML is marked safe here and nowhere else.
"""
