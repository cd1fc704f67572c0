"""How long entries are kept. Only this removes any, and it leaves an entry that says so."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from apps.audit.models import Entry, Removal
from apps.audit.services import note

BATCH = 1000
EXPIRE = "audit.expire"


def expire() -> int:
    """Remove what is older than `retention.audit_days`, a few at a time; returns how many. Without
    the setting, everything is kept."""
    days = settings.STROEM.retention.audit_days
    removed = 0
    if days is not None:
        until = timezone.now() - timedelta(days=days)
        while batch := _remove(until):
            removed += batch
    _tell()  # also of what a process removed that died before it could say so
    return removed


@transaction.atomic
def _remove(until: datetime) -> int:
    """One batch. Its count is kept with it: one entry for each would fill the log."""
    if not Entry.objects.filter(at__lt=until).exists():
        return 0
    Removal.objects.get_or_create(pk=Removal.ONLY, defaults={"until": until})
    Removal.objects.select_for_update().get(pk=Removal.ONLY)  # one conductor at a time
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_entry_expire(%s, %s)", [until, BATCH])
        gone = int(cursor.fetchone()[0])
    Removal.objects.filter(pk=Removal.ONLY).update(count=F("count") + gone, until=until)
    return gone


@transaction.atomic
def _tell() -> None:
    row = Removal.objects.select_for_update().filter(count__gt=0).first()
    if row is None:
        return
    entries = "entry" if row.count == 1 else "entries"
    said = f"removed {row.count:,} {entries} from before {row.until:%Y-%m-%d %H:%M} UTC"
    note(EXPIRE, "audit log", detail=f"{said}, as retention.audit_days says")
    Removal.objects.filter(pk=row.pk).update(count=0)
