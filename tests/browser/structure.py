"""The landmarks, headings and targets of a page that people without a mouse or with a screen reader
rely on."""

from __future__ import annotations

import json

from playwright.sync_api import Page

RULES = (
    "target-size",
    "landmark-one-main",
    "page-has-heading-one",
    "heading-order",
    "region",
    "landmark-unique",
    "skip-link",
    "bypass",
)
FOUND = f"""axe.run(document, {{runOnly: {json.dumps(RULES)}, resultTypes: ['violations']}})
  .then((answer) => answer.violations.flatMap((one) => one.nodes.map(
    (node) => `${{one.id}}: ${{node.html.slice(0, 160)}}`)))"""


def wrong_with(page: Page) -> list[str]:
    """One heading, one main part, targets of 24 pixels, and whatever else axe wants. The page has
    axe."""
    found = []
    for what in ("h1", "main"):
        if (count := page.locator(what).count()) != 1:
            found.append(f"{page.url}: {count} <{what}>")
    icons = page.locator(".material-symbols-outlined:not([aria-hidden=true])").count()
    if icons:
        found.append(f"{page.url}: {icons} icons whose names are read out")
    return found + [f"{page.url}: {sentence}" for sentence in page.evaluate(FOUND)]
