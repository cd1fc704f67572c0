"""Filters and tags for admin templates."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.adminkit import badges, markdown

register = template.Library()
register.simple_tag(badges.badge, name="badge")
register.filter("markdown", markdown.rendered)
LONGEST_SHOWN = 60_000
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@register.filter
def moment(value: datetime | None) -> SafeString | str:
    """A time: relative for readers, exact in the tooltip; the browser keeps it up to date."""
    if value is None:
        return "–"
    exact = value.astimezone(timezone.get_current_timezone()).strftime("%Y-%m-%d %H:%M:%S %Z")
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>',
        value.isoformat(),
        exact,
        ago(timezone.now() - value),
    )


def ago(age: timedelta) -> str:
    """One unit for the past, two for the future."""
    seconds = age.total_seconds()
    if seconds < 0:
        return f"in {span(-seconds)}"
    if seconds < 1:
        return "just now"
    size, name = next((unit for unit in UNITS if seconds >= unit[0]), (1, "s"))
    return f"{int(seconds // size)} {name} ago"


@register.filter
def span(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


@register.simple_tag
def lasting(start: datetime | None, end: datetime | None) -> SafeString | str:
    """A duration; the browser counts while it is still running."""
    if start is None:
        return "–"
    if end is not None:
        return span((end - start).total_seconds())
    passed = (timezone.now() - start).total_seconds()
    return format_html('<span data-since="{}">{}</span>', start.isoformat(), span(max(0.0, passed)))


@register.filter
def pretty(value: Any) -> str:
    """Readable JSON, cut at a limit."""
    text = (
        value
        if isinstance(value, str)
        else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    )
    if len(text) <= LONGEST_SHOWN:
        return text
    return f"{text[:LONGEST_SHOWN]}\n… {len(text) - LONGEST_SHOWN:,} more characters"


@register.filter
def is_plain(value: Any) -> bool:
    """Whether a value reads better as text than as JSON."""
    return isinstance(value, str | int | float | bool) or value is None


@register.simple_tag
def quick_filter(changelist: Any) -> list[dict[str, Any]]:
    """The choices of the list's first filter, shown above the list instead of in a drawer."""
    filters = changelist.filter_specs
    return list(filters[0].choices(changelist)) if filters else []


@register.filter
def entries(value: Any) -> list[tuple[str, Any]] | None:
    """The items of an object, None for anything else. (`value.items` would find a key `items`.)"""
    return list(value.items()) if isinstance(value, dict) else None


@register.filter
def dollars(amount: float) -> str:
    """With digits enough to tell it from nothing."""
    return f"${amount:,.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.4f}"


@register.filter
def tokens(count: int) -> str:
    """A large number in short."""
    for size, name in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f}{name}"
    return str(count)


@register.filter
def words(value: str) -> str:
    """An internal name as words."""
    return value.replace("_", " ")


@register.filter
def short(value: Any) -> str:
    """The start of a job's id: its time in milliseconds, which tells jobs apart."""
    return str(value)[:13]
