"""How long entries are kept: only upkeep removes any, and it says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from apps.audit import keeping
from apps.audit.models import Entry, Removal
from apps.conductor import services as conductor

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


@pytest.fixture
def keep(settings: Any) -> Any:
    """`keep(days)`: the setting of the operator; None keeps everything."""

    def change(days: float | None) -> None:
        retention = replace(settings.STROEM.retention, audit_days=days)
        settings.STROEM = replace(settings.STROEM, retention=retention)

    return change


def entries(*ages: float) -> None:
    """Entries that are so many days old."""
    Entry.objects.bulk_create(
        Entry(at=NOW - timedelta(days=age), act="secret.set", kind="secret", object=f"{age} days")
        for age in ages
    )


def objects() -> list[str]:
    return list(
        Entry.objects.filter(kind="secret").order_by("-at").values_list("object", flat=True)
    )


def told() -> list[str]:
    rows = Entry.objects.filter(act=keeping.EXPIRE).order_by("pk")
    return list(rows.values_list("detail", flat=True))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(keeping, "BATCH", 2)
    yield


def test_without_the_setting_everything_is_kept(keep: Any) -> None:
    keep(None)
    entries(1, 4000)
    conductor.expire()
    assert objects() == ["1 days", "4000 days"] and told() == []


def test_old_entries_go_in_batches_and_one_entry_says_how_many(
    keep: Any, small_batches: None
) -> None:
    keep(365)
    entries(1, 364, 366, 400, 500, 600, 700)
    conductor.expire()
    assert objects() == ["1 days", "364 days"]
    (said,) = told()
    day = f"{datetime.now(UTC) - timedelta(days=365):%Y-%m-%d}"
    assert said.startswith(f"removed 5 entries from before {day} ")
    assert "retention.audit_days" in said
    assert Entry.objects.get(act=keeping.EXPIRE).via == "server"
    conductor.expire()
    assert len(told()) == 1


def test_what_was_removed_before_a_crash_is_told_by_the_next_round(
    keep: Any, small_batches: None
) -> None:
    keep(365)
    entries(366, 400, 500)
    assert keeping._remove(NOW - timedelta(days=365)) == 2  # and then it dies
    assert told() == [] and len(objects()) == 1
    assert keeping.expire() == 1
    (said,) = told()
    assert said.startswith("removed 3 entries ")
    keep(None)
    assert Removal.objects.get().count == 0


def test_nobody_else_deletes_or_changes_old_entries(keep: Any) -> None:
    keep(365)
    entries(400, 500)
    assert keeping.expire() == 2
    entries(400)  # in the transaction in which upkeep has just deleted some
    for attempt in (
        lambda: Entry.objects.filter(kind="secret").delete(),
        lambda: Entry.objects.update(actor="somebody@example.org"),
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attempt()
    assert objects() == ["400 days"]


def test_the_database_keeps_the_last_day_whatever_it_is_asked() -> None:
    entries(0.5, 2)
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_entry_expire(%s, 100)", [NOW + timedelta(days=1)])
        assert cursor.fetchone() == (1,)
    assert objects() == ["0.5 days"]
