"""Badges: a status as a word, a colour and a shape, readable without telling colours apart."""

from __future__ import annotations

from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from engine.lifecycle import AllocationStatus, RequestStatus, StepStatus

# status -> (shape in shapes.svg, tone in admin.css)
LOOKS: dict[str, tuple[str, str]] = {
    StepStatus.PENDING: ("pending", "idle"),
    StepStatus.READY: ("ready", "next"),
    StepStatus.RUNNING: ("running", "run"),
    StepStatus.SUSPENDED: ("suspended", "wait"),
    StepStatus.COMPLETED: ("completed", "ok"),
    StepStatus.FAILED: ("failed", "bad"),
    StepStatus.SKIPPED: ("skipped", "idle"),
    StepStatus.CANCELLED: ("cancelled", "off"),
    RequestStatus.OPEN: ("suspended", "wait"),
    RequestStatus.APPROVED: ("completed", "ok"),
    RequestStatus.REJECTED: ("failed", "bad"),
    RequestStatus.TIMED_OUT: ("cancelled", "bad"),
    AllocationStatus.REQUESTED: ("pending", "idle"),
    AllocationStatus.ACTIVE: ("running", "run"),
    AllocationStatus.COMPLETE: ("completed", "ok"),
    AllocationStatus.LOST: ("failed", "bad"),
    # words of apps above this one; tests compare them with the enums there
    "held": ("pending", "idle"),
    "waiting": ("pending", "idle"),
    "armed": ("ready", "next"),
    "succeeded": ("completed", "ok"),
    "superseded": ("skipped", "idle"),
    "done": ("completed", "ok"),
    "counted": ("running", "run"),
    "refused": ("failed", "bad"),
    "dead": ("failed", "bad"),
    "resting": ("cancelled", "off"),
    "stopping": ("cancelled", "wait"),
    "restarting": ("pending", "wait"),
    "late": ("pending", "idle"),
    "invalid": ("failed", "off"),
    "live": ("running", "ok"),
    "draining": ("suspended", "wait"),
    "silent": ("pending", "bad"),
    "stopped": ("cancelled", "off"),
    "loaded": ("completed", "ok"),
    "warnings": ("suspended", "wait"),
    "broken": ("failed", "bad"),
    "started": ("completed", "ok"),
    "repeated": ("completed", "ok"),
    "rejected": ("failed", "bad"),
    "delivered": ("completed", "ok"),
    "missed": ("pending", "bad"),
    "paused": ("suspended", "wait"),
    "failing": ("failed", "bad"),
    "off": ("cancelled", "off"),
    "gone": ("cancelled", "off"),
}
UNKNOWN = ("pending", "idle")
# what readers see where the status alone would not tell them who has to act
WORDS = {StepStatus.SUSPENDED.value: "waiting for a person"}


def badge(status: str, label: str = "") -> SafeString:
    """The badge of a status. An unknown status appears as text in the quietest tone."""
    shape, tone = LOOKS.get(status, UNKNOWN)
    return format_html(
        '<span class="st-badge st-{}" data-status="{}"><svg class="st-shape" aria-hidden="true">'
        '<use href="{}#{}"></use></svg>{}</span>',
        tone,
        status,
        static("adminkit/shapes.svg"),
        shape,
        label or WORDS.get(status) or status.replace("_", " "),
    )
