"""Untrusted Markdown as harmless HTML: no scripts, styles or pictures, links only to the web."""

from __future__ import annotations

from html import unescape

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

LONGEST = 100_000
LONGEST_LINE = 1_000
TAGS = frozenset(
    "p br hr strong em s code pre blockquote ul ol li h1 h2 h3 h4 h5 h6 table thead tbody tr th"
    " td a".split()
)
_reader = MarkdownIt("commonmark", {"html": False, "linkify": False, "maxNesting": 20}).enable(
    ["table", "strikethrough"]
)


def rendered(text: str) -> SafeString:
    """Markdown as HTML. Raw HTML is shown as text; a second library sanitises the result. Headings
    are a level lower, as the page has the only one of the first."""
    tokens = _reader.parse(text[:LONGEST])
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    html = _reader.renderer.render(tokens, _reader.options, {})
    clean = nh3.clean(
        html,
        tags=set(TAGS),
        attributes={"a": {"href", "title"}},
        attribute_filter=_allowed,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        strip_comments=True,
    )
    return mark_safe(clean)  # noqa: S308  (the one place; cleaned just now)


def first_line(text: str) -> str:
    """The first line as plain text, without Markdown marks; escape it like any other text."""
    shown = unescape(nh3.clean(_reader.render(text[:LONGEST_LINE]), tags=set()))
    return next((line.strip() for line in shown.splitlines() if line.strip()), "")


def _allowed(tag: str, name: str, value: str) -> str | None:
    """Only absolute links: relative ones would lead to our own pages."""
    return (
        value
        if name != "href" or value.lower().startswith(("https://", "http://", "mailto:"))
        else None
    )
