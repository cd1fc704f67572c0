"""Statuses as people see them: a word, a colour and a shape, so that no one needs to tell colours
apart."""

from __future__ import annotations

from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

# status -> (shape in shapes.svg, tone in admin.css)
LOOKS = {
    "pending": ("pending", "idle"),
    "held": ("pending", "idle"),
    "ready": ("ready", "next"),
    "running": ("running", "run"),
    "suspended": ("suspended", "wait"),
    "completed": ("completed", "ok"),
    "failed": ("failed", "bad"),
    "skipped": ("skipped", "idle"),
    "cancelled": ("cancelled", "off"),
    "lost": ("failed", "bad"),
    "open": ("suspended", "wait"),
    "approved": ("completed", "ok"),
    "rejected": ("failed", "bad"),
    "timed_out": ("cancelled", "bad"),
    "withdrawn": ("cancelled", "off"),
    "done": ("completed", "ok"),
    "counted": ("running", "run"),
    "refused": ("failed", "bad"),
    "late": ("pending", "idle"),
    "invalid": ("failed", "off"),
    "waiting": ("pending", "idle"),
    "armed": ("ready", "next"),
    "succeeded": ("completed", "ok"),
    "superseded": ("skipped", "idle"),
    "requested": ("pending", "idle"),
    "active": ("running", "run"),
    "complete": ("completed", "ok"),
    "live": ("running", "ok"),
    "draining": ("suspended", "wait"),
    "silent": ("pending", "bad"),
    "stopped": ("cancelled", "off"),
    "loaded": ("completed", "ok"),
    "warnings": ("suspended", "wait"),
    "broken": ("failed", "bad"),
}
UNKNOWN = ("pending", "idle")


def badge(status: str, label: str = "") -> SafeString:
    """The badge of a status. A status that is not known is shown as text in the quietest tone."""
    shape, tone = LOOKS.get(status, UNKNOWN)
    return format_html(
        '<span class="st-badge st-{}" data-status="{}"><svg class="st-shape" aria-hidden="true">'
        '<use href="{}#{}"></use></svg>{}</span>',
        tone,
        status,
        static("adminkit/shapes.svg"),
        shape,
        label or status.replace("_", " "),
    )
