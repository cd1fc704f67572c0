"""Event sources by hand: which consumer is alive, and what becomes of what it prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from apps.accounts.models import Role
from apps.jobs import ledger as work
from apps.jobs import services as job_services
from apps.jobs.flow import admission
from apps.jobs.models import Attempt, Job, Step
from apps.jobs.upkeep import sweeps
from apps.jobs.upkeep.removal import remove_workspace
from apps.triggers import arrivals, ledger, services, sources, upkeep
from apps.triggers.models import Firing, Source, Trigger
from apps.triggers.snapshots import SourceState, source_states
from apps.workspaces.services import import_folder
from engine import events
from engine.errors import Conflict
from engine.orders import StepOutcome, Verdict
from tests.apps.api.callers import caller
from tests.apps.jobs.builders import Hand, failed, fresh, workspace
from tests.apps.triggers.test_pages import person

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = """
secrets: {word: canary-4711-word}
tasks:
  watch:
    retry: {max_attempts: 3}
    flow: {listen: {type: script, script: "true", env: {A: action, B: action}}}
  main:
    input: {file: {type: string, required: true}, size: {type: integer}}
    flow: {work: {type: script, script: "true"}}
triggers:
  files:
    type: event_source
    task: watch
    target_task: main
    env: {B: "{{ secret.word }}"}
    input: {file: none, size: 7}
    OPTIONS
"""


def files(folder: Path, options: str = "", name: str = "shop") -> Trigger:
    workspace(folder, TEXT.replace("OPTIONS", options), name)
    return Trigger.objects.select_related("workspace").get(name="files")


def consumers() -> list[Job]:
    return list(Job.objects.filter(source_type="consumer").order_by("created_at"))


def emitted() -> list[Mapping[str, Any]]:
    return [job.input for job in Job.objects.filter(source_type="event_source").order_by("id")]


def tend() -> None:
    """Until nothing is left to do."""
    for _ in range(10):
        Source.objects.update(next_at=None)
        if not sources.tend():
            return
    raise AssertionError("the sources do not come to rest")


class Consumer:
    """A consumer in the hands of a worker that exists only as calls."""

    def __init__(self, hand: Hand | None = None) -> None:
        self.hand = hand or Hand()
        tend()
        self.claim = self.hand.take("listen")
        assert self.hand.start(self.claim)
        self.number = 0

    def print(self, payload: Any, number: int | None = None) -> arrivals.Emitted:
        self.number = self.number + 1 if number is None else number
        text = payload if isinstance(payload, str) else json.dumps(payload)
        return ledger.emit(self.claim, self.number, events.read(text))


def state(trigger: Trigger) -> SourceState:
    return source_states([trigger])[trigger.pk]


SAFE = arrivals.Emitted()
STOPPED = StepOutcome(Verdict.CANCELLED, error="Job cancelled")


def test_one_consumer_is_started_and_no_second_one(tmp_path: Path) -> None:
    row = files(tmp_path)
    assert state(row).state == "restarting"
    tend()
    tend()
    (job,) = consumers()
    assert (job.source_id, job.task_name, job.status) == ("shop/files", "watch", "running")
    assert state(row).state == "waiting"
    claim = Hand(name="box").take("listen")
    found = state(row)
    assert (found.state, found.worker, found.consumer_id) == ("running", "box", job.id)
    assert job.deadline_at is None and claim.timeout_s is None


def test_a_consumer_has_the_sources_environment_and_no_retry_of_its_own(tmp_path: Path) -> None:
    files(tmp_path)
    material = work.material(Consumer().claim)
    assert isinstance(material, work.Material) and material.emits
    assert dict(material.action.env) == {"A": "action", "B": "{{ secret.word }}"}
    assert material.step.on_worker_lost == "retry"


def test_other_jobs_of_the_same_task_emit_nothing(tmp_path: Path) -> None:
    row = files(tmp_path)
    Source.objects.create(trigger=row, is_resting=True)
    job_services.start_job("shop", "watch", {})
    hand = Hand()
    claim = hand.take("listen")
    assert hand.start(claim)
    material = work.material(claim)
    assert isinstance(material, work.Material) and not material.emits
    told = ledger.emit(claim, 1, events.read('{"file": "a"}'))
    assert "not the consumer" in told.refused and emitted() == []


def test_an_event_is_a_job_with_the_defaults_beneath_it(tmp_path: Path) -> None:
    row = files(tmp_path)
    one = Consumer()
    assert one.print({"file": "a.csv", "more": [1]}) == SAFE
    assert one.print({"size": 1}) == SAFE
    assert emitted() == [{"file": "a.csv", "size": 7, "more": [1]}, {"file": "none", "size": 1}]
    found = state(row)
    assert (found.events, found.in_flight, found.dead_letters) == (2, 2, 0)
    job = Job.objects.filter(source_type="event_source").first()
    assert job is not None and job.source_id == "shop/files"


def test_the_same_event_is_one_job_however_often_it_comes(tmp_path: Path) -> None:
    files(tmp_path)
    one = Consumer()
    assert one.print({"file": "a"}, number=1) == SAFE
    assert one.print({"file": "a"}, number=1) == SAFE  # the answer was lost
    for _ in range(3):
        assert one.print({"file": "b", "_event": {"id": "17-0"}}) == SAFE
    assert [value["file"] for value in emitted()] == ["a", "b"]
    one.hand.finish(one.claim, failed())
    again = Consumer(one.hand)
    assert again.print({"file": "b", "_event": {"id": "17-0"}}) == SAFE
    assert again.print({"file": "a"}, number=1) == SAFE  # another consumer's first
    assert [value["file"] for value in emitted()] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"file": "a", "size": "many"}', "size"),
        ("[1]", "the event is no JSON object"),
        ("{", "the event cannot be read"),
    ],
)
def test_an_event_without_a_job_is_a_dead_letter_with_its_reason(
    tmp_path: Path, line: str, reason: str
) -> None:
    row = files(tmp_path)
    one = Consumer()
    one.print(line)
    assert emitted() == []
    letter = Firing.objects.get()
    assert (letter.status, letter.cause) == ("dead", "event") and reason in letter.reason
    assert state(row).dead_letters == 1
    assert "many" not in str(letter.__dict__.get("sealed"))


def test_a_dead_letter_is_sent_again_once_its_cause_is_mended(tmp_path: Path) -> None:
    row = files(tmp_path)
    one = Consumer()
    one.print({"file": "a", "size": "many"})
    letter = Firing.objects.get()
    found = arrivals.send_again(row.pk, letter.pk, by="ann")
    assert found.status == "dead" and found.sealed is not None  # as before, and still there
    mended = TEXT.replace("OPTIONS", "").replace("size: {type: integer}", "size: {type: string}")
    (tmp_path / "shop" / "workflow.yaml").write_text(mended)
    import_folder("shop", tmp_path / "shop")
    found = arrivals.send_again(row.pk, letter.pk, by="ann")
    assert (found.status, found.by, found.sealed) == ("started", "ann", None)
    assert emitted() == [{"file": "a", "size": "many"}]
    with pytest.raises(Conflict, match="no dead letter any more"):
        arrivals.send_again(row.pk, letter.pk, by="ann")


def test_what_is_no_event_can_only_be_discarded(tmp_path: Path) -> None:
    row = files(tmp_path)
    Consumer().print("oops")
    letter = Firing.objects.get()
    with pytest.raises(Conflict, match="discard it"):
        arrivals.send_again(row.pk, letter.pk, by="ann")
    arrivals.discard(row.pk, letter.pk, by="ann")
    letter.refresh_from_db()
    assert (letter.status, letter.reason) == ("skipped", "discarded by ann")
    with pytest.raises(Conflict):
        arrivals.discard(row.pk, letter.pk, by="ann")


def test_no_more_jobs_are_open_than_max_in_flight(tmp_path: Path) -> None:
    files(tmp_path, "max_in_flight: 2")
    one = Consumer()
    for name in ("a", "b"):
        assert one.print({"file": name}) == SAFE
    assert "max_in_flight" in one.print({"file": "c"}, number=3).waits
    assert len(emitted()) == 2
    done = one.hand.take("work")
    one.hand.start(done)
    one.hand.finish(done)
    assert one.print({"file": "c"}, number=3) == SAFE
    assert one.print({"file": "c"}, number=3) == SAFE  # a repeat never waits
    assert len(emitted()) == 3


def test_a_job_that_will_be_retried_is_in_flight_still(tmp_path: Path) -> None:
    text = TEXT.replace("OPTIONS", "max_in_flight: 1").replace(
        "  main:\n", "  main:\n    retry: {max_attempts: 2, delay: 1h}\n"
    )
    workspace(tmp_path, text, "shop")
    row = Trigger.objects.select_related("workspace").get(name="files")
    one = Consumer()
    assert one.print({"file": "a"}) == SAFE
    done = one.hand.take("work")
    one.hand.start(done)
    one.hand.finish(done, failed())
    (again,) = Job.objects.filter(source_type="retry")
    assert again.status == "pending" and state(row).in_flight == 1
    assert "max_in_flight" in one.print({"file": "b"}, number=2).waits
    Job.objects.filter(pk=again.pk).update(due_at="2020-01-01T00:00Z")
    admission.admit(again.pk)
    last = one.hand.take("work")
    one.hand.start(last)
    one.hand.finish(last, failed())
    assert one.print({"file": "b"}, number=2) == SAFE


def test_a_source_waits_when_nobody_deals_with_its_dead_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "MOST_DEAD", 2)
    row = files(tmp_path)
    one = Consumer()
    one.print("x")
    one.print("y")
    assert "dead letters wait" in one.print({"file": "a"}, number=3).waits
    letter = Firing.objects.order_by("id").first()
    assert letter is not None
    arrivals.discard(row.pk, letter.pk, by="ann")
    assert one.print({"file": "a"}, number=3) == SAFE


def test_an_idempotency_key_of_the_trigger_counts_for_events_too(tmp_path: Path) -> None:
    files(tmp_path, 'idempotency_key: "{{ event.file }}"')
    one = Consumer()
    for _ in range(3):
        assert one.print({"file": "a"}) == SAFE
    assert len(emitted()) == 1


def test_a_secret_that_a_consumer_prints_stands_in_no_row(tmp_path: Path) -> None:
    files(tmp_path)
    one = Consumer()
    one.print({"file": "canary-4711-word"})
    one.print({"file": "a", "size": "canary-4711-word"})
    assert "4711" not in json.dumps(emitted())
    assert "4711" not in "".join(Firing.objects.values_list("reason", flat=True))
    assert "4711" not in Trigger.objects.get().last_error


def test_a_new_revision_starts_the_source_again_on_the_new_files(tmp_path: Path) -> None:
    row = files(tmp_path)
    one = Consumer()
    (tmp_path / "shop" / "new.txt").write_text("x")
    import_folder("shop", tmp_path / "shop")
    tend()
    (old,) = consumers()
    assert "new revision" in old.cancel_reason and state(row).state == "stopping"
    assert one.print({"file": "last"}) == SAFE  # printed before it stopped
    one.hand.finish(one.claim, STOPPED)
    tend()
    old, new = consumers()
    row.workspace.refresh_from_db()
    assert new.revision_id == row.workspace.current_id != old.revision_id
    assert state(row).failures == 0


@pytest.mark.sample(3)
@pytest.mark.parametrize("how", ["pause", "leave", "disable"])
def test_a_source_that_is_not_wanted_stops_and_comes_back(tmp_path: Path, how: str) -> None:
    row = files(tmp_path)
    one = Consumer()
    if how == "pause":
        services.pause(row.pk, by="ann")
    else:
        text = TEXT.replace("OPTIONS", "enabled: false") if how == "disable" else "tasks: {}\n"
        (tmp_path / "shop" / "workflow.yaml").write_text(text)
        import_folder("shop", tmp_path / "shop")
    tend()
    assert fresh(consumers()[0]).cancel_requested_at is not None
    one.hand.finish(one.claim, STOPPED)
    tend()
    assert len(consumers()) == 1 and state(row).state == "off"
    if how == "leave":
        assert "not the consumer" in one.print({"file": "a"}).refused
    services.resume(row.pk, by="ann")
    (tmp_path / "shop" / "workflow.yaml").write_text(TEXT.replace("OPTIONS", ""))
    import_folder("shop", tmp_path / "shop")
    tend()
    assert len(consumers()) == 2


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("policy", "outcome", "again"),
    [
        ("always", None, True),
        ("always", "failed", True),
        ("on_failure", None, False),
        ("on_failure", "failed", True),
        ("never", None, False),
        ("never", "failed", False),
    ],
)
def test_the_policy_says_which_ends_are_followed_by_another_consumer(
    tmp_path: Path, policy: str, outcome: str | None, again: bool
) -> None:
    row = files(tmp_path, f"restart_policy: {policy}")
    one = Consumer()
    one.hand.finish(one.claim, *([failed("boom")] if outcome else []))
    tend()
    assert len(consumers()) == (2 if again else 1)
    found = state(row)
    assert found.state == ("waiting" if again else "resting")
    assert (found.failures, "boom" in found.error) == (int(again and bool(outcome)), bool(outcome))
    assert found.restarts == (1 if again else 0)


def test_failures_in_a_row_wait_longer_and_an_event_forgives_them(tmp_path: Path) -> None:
    row = files(tmp_path, "backoff_secs: 9")
    hand = Hand()
    for count in (1, 2, 3):
        one = Consumer(hand)
        hand.finish(one.claim, failed())
        sources.tend()
        found = state(row)
        assert found.failures == count and found.state == "restarting"
        assert found.next_at is not None
    one = Consumer(hand)
    one.print({"file": "a"})
    assert state(row).failures == 0


def test_a_lost_worker_moves_the_consumer_whatever_the_policy_says(tmp_path: Path) -> None:
    row = files(tmp_path, "restart_policy: never")
    for _ in range(4):  # more than `recovery.lost_retries`
        one = Consumer(Hand())
        Attempt.objects.filter(pk=one.claim.attempt_id).update(lease_until="2020-01-01T00:00Z")
        assert "not the consumer" in one.print({"file": "late"}).refused
        sweeps.lost_attempts()
    Consumer(Hand())
    assert state(row).state == "running"
    assert len(consumers()) == 2
    assert Step.objects.filter(job=consumers()[1]).get().status == "running"


def test_a_source_that_cannot_start_says_why_and_tries_again(tmp_path: Path) -> None:
    agent = "{type: agent, provider: none-of-ours, prompt: x}"
    text = TEXT.replace("OPTIONS", "").replace(
        '{type: script, script: "true", env: {A: action, B: action}}', agent
    )
    workspace(tmp_path, text, "shop")
    row = Trigger.objects.select_related("workspace").get(name="files")
    sources.tend()
    found = state(row)
    assert "none-of-ours" in found.error and found.failures == 1 and consumers() == []
    assert found.state == "restarting" and found.next_at is not None
    assert any("none-of-ours" in sentence for _, sentence in services.troubles())


def test_a_workspace_is_removed_once_its_source_has_stopped(tmp_path: Path) -> None:
    files(tmp_path)
    one = Consumer()
    with pytest.raises(Conflict, match="event sources of workspace 'shop' are being stopped"):
        remove_workspace("shop")
    tend()
    one.hand.finish(one.claim, STOPPED)
    tend()
    assert len(consumers()) == 1
    assert remove_workspace("shop") == 1 and not Trigger.objects.exists()


def test_a_workspace_without_a_revision_ends_its_sources(tmp_path: Path) -> None:
    row = files(tmp_path)
    Consumer()
    row.workspace.current = None
    row.workspace.save()
    upkeep.follow_revisions()
    tend()
    assert fresh(consumers()[0]).cancel_requested_at is not None


def test_its_page_shows_the_consumer_and_deals_with_dead_letters(tmp_path: Path) -> None:
    row = files(tmp_path, "max_in_flight: 5")
    one = Consumer(Hand(name="box"))
    one.print({"file": "a"})
    one.print({"file": "a", "size": "many"})
    one.print("oops")
    client = person(Role.OPERATOR)
    page = client.get(f"/admin/triggers/trigger/{row.pk}/change/").content.decode()
    assert "on box" in page and "1 of 5" in page and "Dead letters" in page
    assert str(consumers()[0].pk) in page and "the event cannot be read" in page
    listed = client.get("/admin/triggers/trigger/").content.decode()
    assert "running on box, 3 events, 1 in flight, 2 dead letters" in listed
    act = f"/admin/triggers/trigger/{row.pk}/act"
    client.post(f"{act}/send-again/", {"letter": "all"})
    assert state(row).dead_letters == 2
    client.post(f"{act}/discard/", {"letter": "all"})
    assert state(row).dead_letters == 0
    assert person(Role.VIEWER).post(f"{act}/discard/", {"letter": "all"}).status_code == 403


def test_the_api_and_the_commands_show_its_state_and_deal_with_dead_letters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = files(tmp_path)
    one = Consumer(Hand(name="box"))
    one.print({"file": "a", "size": "many"})
    one.print("oops")
    client, path = caller(Role.OPERATOR), "/api/workspaces/shop/triggers/files"
    detail = client.get(path).json()
    assert detail["trigger"]["event_source"]["worker"] == "box"
    assert detail["trigger"]["event_source"]["dead_letters"] == len(detail["dead_letters"]) == 2
    oops = next(letter for letter in detail["dead_letters"] if "read" in letter["reason"])
    assert client.post(f"{path}/dead-letters/{oops['id']}/send-again").status_code == 409
    assert client.post(f"{path}/dead-letters/{oops['id']}/discard").status_code == 200
    assert client.post(f"{path}/dead-letters/x/discard").status_code == 404
    (again,) = client.post(f"{path}/dead-letters/all/send-again").json()["items"]
    assert again["status"] == "dead" and "size" in again["reason"]
    (listed,) = client.get("/api/triggers").json()["items"]
    assert listed["event_source"]["state"] == "running"
    assert client.post(f"{path}/pause").json()["state"] == "paused"

    call_command("triggers", "send-again", "shop", "files")
    call_command("triggers", "discard", "shop", "files")
    call_command("triggers", "list")
    said = capsys.readouterr().out
    assert "0 of 1 dead letters were dealt with. 1 are dead letters again" in said
    assert "1 of 1 dead letters were dealt with." in said and "running on box" in said
    assert state(row).dead_letters == 0
