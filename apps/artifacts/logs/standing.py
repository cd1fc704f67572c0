"""How it stands with lines in the storage, for `doctor` and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import Count, Sum
from django.db.models.functions import Now

from apps.artifacts.models import JobLog, LogRound


@dataclass(frozen=True, slots=True)
class Standing:
    """`error`: why the last round could not go on, since `failing_s`; `waiting`: jobs whose lines
    it left in the database."""

    is_on: bool
    error: str = ""
    failing_s: float = 0.0
    waiting: int = 0
    ended_at: datetime | None = None


def standing() -> Standing:
    row = LogRound.objects.annotate(asked_at=Now()).first()
    if row is None:
        return Standing(settings.STROEM.archives_logs)
    asked_at: datetime = getattr(row, "asked_at")  # noqa: B009  (annotated)
    failing_s = (asked_at - row.failing_since).total_seconds() if row.failing_since else 0.0
    return Standing(settings.STROEM.archives_logs, row.error, failing_s, row.waiting, row.ended_at)


def sizes() -> dict[str, int]:
    """Jobs, lines and bytes in the storage."""
    found = JobLog.objects.filter(size_bytes__gt=0).aggregate(
        jobs=Count("pk"), lines=Sum("line_count"), bytes=Sum("size_bytes"), raw=Sum("raw_bytes")
    )
    return {name: int(value or 0) for name, value in found.items()}
