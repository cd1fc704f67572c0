"""What people may do with a trigger, and what they see of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from apps.accounts.models import User
from apps.triggers import abroad, arrivals, dials, firing, roster, transitions
from apps.triggers.models import Firing, Trigger
from apps.triggers.occasions import Occasion
from apps.triggers.snapshots import with_sources
from apps.workspaces.revisions import definitions_of
from engine import slots
from engine.errors import Conflict, NotFound
from engine.lifecycle import FiringStatus
from engine.spec import cron

NEXT = 5
LATE = timedelta(minutes=1)


def pause(trigger_id: int, *, by: str) -> Trigger:
    """Stop a trigger without touching the files. Raises NotFound."""
    return roster.set_paused(trigger_id, True, by)


def resume(trigger_id: int, *, by: str) -> Trigger:
    """Let it go on; what was missed meanwhile is not caught up. Raises NotFound."""
    return roster.set_paused(trigger_id, False, by)


def fire_by_hand(trigger_id: int, *, user: User | None, by: str) -> Firing:
    """Fire a clock now, beside its slots. Raises NotFound, and Conflict for what is no clock, or is
    gone."""
    trigger = Trigger.objects.select_related("workspace").filter(pk=trigger_id).first()
    if trigger is None:
        raise NotFound(f"Trigger {trigger_id} not found")
    if trigger.kind != "scheduler":
        raise Conflict(
            f"Trigger '{trigger.name}' is of type {trigger.kind}: only a scheduler can be fired by"
            " hand"
        )
    now = transitions.database_now().replace(microsecond=0)
    context = dials.times_of(trigger, now)
    user_id = user.pk if user else None
    return firing.fire(trigger.pk, Occasion(Firing.Cause.HAND, context, by=by, user_id=user_id))


def deal_with(trigger_id: int, letter: str, what: str, *, by: str) -> list[Firing]:
    """Send a dead letter again, or discard it; `letter`: its id, or `all`. Raises NotFound, and
    Conflict for one that cannot be dealt with so."""
    deal = {"send-again": arrivals.send_again, "discard": arrivals.discard}[what]
    if letter != "all":
        is_number = letter.isascii() and letter.isdigit() and len(letter) < 19
        if not is_number:
            raise NotFound("There is no such dead letter")
        return [deal(trigger_id, int(letter), by=by)]
    rows = Firing.objects.filter(trigger_id=trigger_id, status=FiringStatus.DEAD).order_by("id")
    found = []
    for row in list(rows.defer("sealed")[: arrivals.MOST_DEAD]):
        with suppress(Conflict):  # dealt with meanwhile, or no event at all
            found.append(deal(trigger_id, row.pk, by=by))
    return found


def state_of(trigger: Trigger) -> str:
    """In one word: live, failing, resting, paused, off, or gone."""
    if not trigger.is_listed:
        return "gone"
    if not trigger.is_enabled:
        return "off"
    if trigger.paused_at is not None:
        return "paused"
    seen = trigger.seen_source
    if trigger.failures or (seen is not None and seen.failures):
        return "failing"
    return "resting" if seen is not None and seen.state == "resting" else "live"


def described(trigger: Trigger) -> str:
    """What makes it fire, in words."""
    options = trigger.definition["options"]
    match trigger.kind:
        case "scheduler":
            zone = options["timezone"]
            return cron.explain(options["cron"]) + ("" if zone == "UTC" else f", {zone}")
        case "webhook":
            return f"A request to /hooks/{trigger.workspace.name}/{trigger.address}"
        case "job":
            ends = " or ".join(options["on_job"]["status"])
            where = options["on_job"].get("workspace")
            of = f" of workspace {where}" if where else ""
            return f"The end of task {options['on_job']['task']}{of}: {ends}"
    about = f": {trigger.seen_source.words}" if trigger.seen_source is not None else ""
    return f"Events of task {options['task']}{about}"


def next_runs(trigger: Trigger, now: datetime, count: int = NEXT) -> list[datetime]:
    """When a clock fires next, jitter included."""
    if trigger.kind != "scheduler" or trigger.next_slot is None:
        return []
    clock = dials.clock_of(trigger)
    first = max(trigger.next_slot, now - clock.offset)
    later = slots.following(clock, first, count)
    found = [first, *later] if first == trigger.next_slot else later
    return [slot + clock.offset for slot in found[:count]]


def troubles() -> Iterator[tuple[str, str]]:
    """(workspace/trigger, sentence) of those that cannot do what their files say."""
    live = Trigger.objects.live().select_related("workspace")
    for row, sentence in _told(with_sources(live.order_by("workspace_id", "name"))):
        yield str(row), sentence


def _told(rows: list[Trigger]) -> Iterator[tuple[Trigger, str]]:
    now = transitions.database_now()
    currents = [row.workspace.current_id for row in rows]
    contents = definitions_of({current for current in currents if current is not None})
    for row in rows:
        current = row.workspace.current_id
        tasks = contents[current].tasks if current in contents else {}
        if row.task not in tasks:
            yield row, f"its task '{row.task}' is gone: no job can start"
        elif sentence := _trouble(row, now):
            yield row, sentence


def _trouble(row: Trigger, now: datetime) -> str:
    if row.watched and (why := abroad.refusal_of(row)):
        return why
    seen = row.seen_source
    if seen is not None and seen.failures:
        return f"its consumer failed {seen.failures} time(s) in a row: {seen.error}"
    if seen is not None and seen.dead_letters:
        return f"{seen.dead_letters} dead letter(s) wait: {row.last_error}"
    if row.failures:
        return f"refused {row.failures} time(s) in a row: {row.last_error}"
    if row.next_at is not None and row.next_at < now - LATE:
        late = f"{row.next_at:%Y-%m-%d %H:%M} UTC"
        return f"its run of {late} has not started: is a scheduler running?"
    return ""
