"""A subscription with a history: delivered, tried again, given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.subscriptions.models import Subscription
    from tests.browser.stage import Stage

AWAY = "no answer within 10 s"


def prepare(stage: Stage) -> Subscription:
    """Nothing is due, so no scheduler sends it."""
    from django.db import transaction

    from apps.subscriptions import services, transitions
    from apps.subscriptions.models import Subscription
    from apps.subscriptions.services import Wanted
    from apps.subscriptions.transitions import Try
    from engine.lifecycle import DeliveryEventKind

    found = Subscription.objects.filter(workspace=stage.site).first()
    if found is not None:
        return found
    url = "https://pager.example.org/hooks/stroem"
    wanted = Wanted(url, ["approval.escalated", "approval.reminded"])
    row, _ = services.create(stage.site, "pager", wanted, by="olga@example.org")
    given_up, tried = DeliveryEventKind.GIVEN_UP, DeliveryEventKind.TRIED
    with transaction.atomic():
        for event, kind, end, wait_s in (
            ("ping", DeliveryEventKind.DELIVERED, Try("", 204, None, 84), None),
            ("approval.reminded", given_up, Try("the receiver answered 503", 503), None),
            ("approval.escalated", tried, Try(AWAY, None, None, 10_000), 28_000.0),
        ):
            body = f'{{"type":"{event}","timestamp":"2026-05-04T10:00:03Z","data":{{}}}}'
            key = transitions.write_one(row.pk, event, body, job=None)
            transitions.move(key, kind, end, wait_s)
        Subscription.objects.filter(pk=row.pk).update(failures=4, last_error=AWAY)
    return row
