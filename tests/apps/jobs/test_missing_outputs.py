"""Outputs that are not there: what the idioms of the guides give after a step, or the items of a
loop, were skipped, failed, timed out or were cancelled."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import F

from apps.approvals import reminders
from apps.approvals import services as approvals
from apps.approvals.transitions import Caller
from apps.jobs import ledger, services
from apps.jobs.models import Job, Step
from apps.jobs.upkeep import sweeps
from engine import templating
from engine.errors import TemplateError
from engine.orders import StepOutcome, Verdict
from tests.apps.api.callers import user
from tests.apps.jobs.builders import Hand, failed, fresh, output, start, statuses, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
TIMED_OUT = StepOutcome(Verdict.TIMED_OUT, error="Step timed out after 1s")
HALF = StepOutcome(Verdict.FAILED, exit_code=3, error="x", output={"n": 9}, has_output=True)
STOPPED = StepOutcome(Verdict.CANCELLED, error="Job cancelled")
TEXT = """
actions:
  work: {type: script, script: "true"}
  ask: {type: approval, message: "Go on?", timeout: 1h}
  call: {type: task, task: inner}
tasks:
  inner: {flow: {n: {action: work}}}
  main:
    input: {run: {type: boolean, default: true}, items: {type: string, default: "[1, 2, 3]"}}
    flow:
      a: {action: KIND, when: "{{ input.run }}", LOOP continue_on_failure: true}
      b: {action: work}
      after: {action: work, depends_on: [a, b], input: {seen: "{{ a.output | json_encode }}"}}
"""
LOOP = 'for_each: "{{ input.items }}",'
IDIOMS = {
    "{{ a.output | json_encode }}": "null",
    "{{ a.output.n | default(value=7) }}": "7",
    "{{ a.output | default(value=[]) | length }}": "0",
    "{% if a.output %}yes{% else %}no{% endif %}": "no",
}


@pytest.fixture(scope="module")
def homes(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    folder = tmp_path_factory.mktemp("missing")

    def home(kind: str, loop: str = "") -> Any:
        key = f"{kind}{bool(loop)}".lower()
        if key not in found:
            text = TEXT.replace("KIND", kind).replace("LOOP", loop)
            found[key] = workspace(folder, text, key)
        return found[key]

    found: dict[str, Any] = {}
    return home


def seen_by_after(job: Job, template: str) -> str:
    """What the template gives in the step behind the join."""
    hand = Hand()
    if statuses(job)["b"] != "completed":
        hand.finish(hand.take("b"))
    claim = hand.take("after")
    outputs = ledger.material(claim).outputs  # type: ignore[union-attr]
    ledger.give_back(claim)
    return templating.render(template, outputs)


def nobody_decides(job: Job) -> None:
    Step.objects.filter(job_id=job.id, status="suspended").update(deadline_at=F("suspended_at"))
    reminders.overdue_approvals()


def somebody_rejects(job: Job) -> None:
    judge = user(None, is_superuser=True)
    for step in Step.objects.filter(job_id=job.id, status="suspended"):
        request = approvals.request_of(job.id, step.name)
        approvals.decide(request.pk, Caller(judge, "api"), approved=False, reason="no")


def child_fails(job: Job) -> None:
    Hand().work({"n": HALF})


def child_is_cancelled(job: Job) -> None:
    for child in Job.objects.filter(parent_job_id=job.id):
        services.cancel_job(child.id, actor="me@example.org")


def child_takes_too_long(job: Job) -> None:
    Step.objects.filter(job_id=job.id, name__startswith="a", status="running", kind="task").exclude(
        child_job_id=None
    ).update(deadline_at=F("started_at"))
    sweeps.overdue_children()


def script_ends(outcome: StepOutcome) -> Any:
    def end(job: Job) -> None:
        Hand().work({"a": outcome})

    return end


WAYS = [
    ("work", script_ends(failed())),
    ("work", script_ends(HALF)),
    ("work", script_ends(TIMED_OUT)),
    ("ask", nobody_decides),
    ("ask", somebody_rejects),
    ("call", child_fails),
    ("call", child_takes_too_long),
]


@pytest.mark.parametrize(("kind", "end"), WAYS)
@pytest.mark.parametrize("template", IDIOMS)
def test_a_tolerated_failure_leaves_null(homes: Any, kind: str, end: Any, template: str) -> None:
    job = start(homes(kind))
    end(job)
    assert Step.objects.get(job_id=job.id, name="a").status == "failed"
    if statuses(job)["after"] != "completed":
        assert seen_by_after(job, template) == IDIOMS[template]
        assert seen_by_after(job, "{{ a.error | default(value='') }}") != ""
        Hand().work()
    assert fresh(job).status == "completed"


@pytest.mark.parametrize("kind", ["work", "ask", "call"])
@pytest.mark.parametrize("loop", ["", LOOP])
@pytest.mark.parametrize("template", IDIOMS)
def test_a_skipped_branch_is_null_behind_a_join(
    homes: Any, kind: str, loop: str, template: str
) -> None:
    job = start(homes(kind, loop), run=False)
    assert seen_by_after(job, template) == IDIOMS[template]


@pytest.mark.parametrize("template", IDIOMS)
def test_a_loop_over_nothing_is_null_behind_a_join(homes: Any, template: str) -> None:
    job = start(homes("work", LOOP), items="[]")
    assert statuses(job)["a"] == "skipped"
    assert seen_by_after(job, template) == IDIOMS[template]


@pytest.mark.parametrize(("kind", "end"), [*WAYS, ("call", child_is_cancelled)])
def test_each_item_of_a_loop_that_did_not_complete_is_null(homes: Any, kind: str, end: Any) -> None:
    job = start(homes(kind, LOOP))
    end(job)
    loop = Step.objects.get(job_id=job.id, name="a")
    assert (loop.status, loop.output) == ("completed", [None, None, None])
    if statuses(job)["after"] != "completed":
        assert seen_by_after(job, "{{ a.output | length }}") == "3"
        assert seen_by_after(job, "{{ a.output | json_encode }}") == "[null,null,null]"


def test_items_keep_their_places_around_one_that_failed_with_half_an_output(homes: Any) -> None:
    job = start(homes("work", LOOP))
    Hand().work({"a[0]": output({"n": 1}), "a[1]": HALF, "a[2]": output({"n": 3})})
    assert Step.objects.get(job_id=job.id, name="a").output == [{"n": 1}, None, {"n": 3}]


def test_secret_outputs_of_failed_items_are_null_as_well(
    shared_db: None,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    text = 'secrets: {pw: "canary-4711"}\n' + TEXT.replace("KIND", "work").replace("LOOP", LOOP)
    job = start(workspace(tmp_path_factory.mktemp("sealed"), text))
    told = {"n": "canary-4711"}
    ends = {
        "a[0]": output(told),
        "a[1]": StepOutcome(Verdict.FAILED, error="x", output=told, has_output=True),
        "a[2]": output({"n": 3}),
    }
    hand = Hand()
    for name, outcome in ends.items():
        report = ledger.Report(hand.take(name), outcome, masks=("canary-4711",))
        assert ledger.finish(report).accepted
    assert Step.objects.get(job_id=job.id, name="a").output == [{"n": "••••••"}, None, {"n": 3}]
    told_again = '[{"n":"canary-4711"},null,{"n":3}]'
    assert seen_by_after(job, "{{ a.output | json_encode }}") == told_again


def test_a_child_that_was_cancelled_skips_what_depends_on_it_unless_that_tolerates_it(
    homes: Any,
) -> None:
    job = start(homes("call"))
    child_is_cancelled(job)
    Hand().work()
    assert statuses(job) == {"a": "cancelled", "b": "completed", "after": "skipped"}


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{{ a.output.n }}", "'a.output.n' is not defined: 'a.output' is null"),
        ("{{ a.output | length }}", "works on a string, an array or an object, not on null"),
    ],
)
def test_where_nothing_is_and_no_default_is_given_the_sentence_says_what_is_null(
    homes: Any, template: str, sentence: str
) -> None:
    job = start(homes("work"), run=False)
    with pytest.raises(TemplateError, match=sentence):
        seen_by_after(job, template)
