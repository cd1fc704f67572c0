"""The truth table of promotion, on the database: ends of dependencies, `when`,
`continue_on_failure`, kinds of step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from apps.jobs import services
from apps.jobs.models import Job, Step
from apps.workspaces.models import Workspace
from tests.apps.jobs.builders import DONE, Hand, failed, fresh, start, statuses, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)

OUTCOMES = ("completed", "failed", "tolerated", "skipped", "cancelled")
WHENS = {
    "none": "",
    "true": "{{ input.yes }}",
    "false": "{{ not input.yes }}",
    "error": "{{ input.yes.no.way }}",
}
KINDS = ("plain", "loop", "child")
CASES = list(product(OUTCOMES, WHENS, (False, True), KINDS))

# What stands in the place of the dependency, so that it ends as the column says.
DEPENDENCY = {
    "completed": "{action: work}",
    "failed": "{action: work}",
    "tolerated": "{action: work, continue_on_failure: true}",
    "skipped": "{action: work, when: 'false'}",
    "cancelled": "{action: call}",
}
STEP = {
    "plain": "action: work",
    "loop": "action: work, for_each: [1, 2], max_parallel: 1",
    "child": "action: call",
}


def name_of(outcomes: tuple[str, ...], when: str, tolerates: bool, kind: str) -> str:
    return "-".join((*outcomes, when, "cof" if tolerates else "strict", kind))


def task_of(outcomes: tuple[str, ...], when: str, tolerates: bool, kind: str) -> str:
    options = STEP[kind]
    if WHENS[when]:
        options += f', when: "{WHENS[when]}"'
    if tolerates:
        options += ", continue_on_failure: true"
    steps = [f"      d{at}: {DEPENDENCY[outcome]}" for at, outcome in enumerate(outcomes)]
    needs = ", ".join(f"d{at}" for at in range(len(outcomes)))
    steps.append(f"      step: {{{options}, depends_on: [{needs}]}}")
    steps.append("      after: {action: work, depends_on: [step]}")
    flow = "\n".join(steps)
    name = name_of(outcomes, when, tolerates, kind)
    return f"  {name}:\n    input: {{yes: {{type: boolean, default: true}}}}\n    flow:\n{flow}\n"


JOINS = [pair for pair in product(OUTCOMES, repeat=2) if pair[0] <= pair[1]]
TASKS = [((outcome,), when, tolerates, kind) for outcome, when, tolerates, kind in CASES] + [
    (pair, "none", tolerates, "plain") for pair in JOINS for tolerates in (False, True)
]


@pytest.fixture(scope="module")
def table(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Workspace:  # noqa: F811
    head = 'actions:\n  work: {type: script, script: "true"}\n  call: {type: task, task: inner}\n'
    tasks = "tasks:\n  inner: {flow: {inside: {action: work}}}\n" + "".join(
        task_of(*case) for case in TASKS
    )
    return workspace(tmp_path_factory.mktemp("table"), head + tasks)


@pytest.fixture(scope="module")
def hand(table: Workspace) -> Iterator[Hand]:
    yield Hand()


def run(table: Workspace, hand: Hand, outcomes: tuple[str, ...], case: tuple[Any, ...]) -> Job:
    job = start(table, name_of(outcomes, *case))
    for at, outcome in enumerate(outcomes):
        if outcome == "cancelled":
            child = Step.objects.get(job_id=job.id, name=f"d{at}").child_job_id
            services.cancel_job(child, actor="somebody")
    ends = {
        f"d{at}": failed("boom")
        for at, outcome in enumerate(outcomes)
        if outcome in ("failed", "tolerated")
    }
    while (claim := hand.claim()) is not None:
        assert claim.step_name not in ("step", "after") or not open_dependencies(
            job, claim.step_name
        )
        hand.start(claim)
        hand.finish(claim, ends.get(claim.step_name, DONE))
    return fresh(job)


def open_dependencies(job: Job, name: str) -> bool:
    before = ["step"] if name == "after" else [n for n in statuses(job) if n.startswith("d")]
    return Step.objects.filter(
        job_id=job.id, name__in=before, status__in=["pending", "ready", "running", "suspended"]
    ).exists()


def expected(outcomes: tuple[str, ...], when: str, tolerates: bool) -> str:
    """How `step` ends, in the words of the specification."""
    if not tolerates and ({"failed", "cancelled"} & set(outcomes) or set(outcomes) == {"skipped"}):
        return "skipped"
    return {"none": "completed", "true": "completed", "false": "skipped", "error": "failed"}[when]


def check(job: Job, outcomes: tuple[str, ...], when: str, tolerates: bool, kind: str) -> None:
    found = statuses(job)
    for at, outcome in enumerate(outcomes):
        assert found[f"d{at}"] == ("failed" if outcome == "tolerated" else outcome)
    status = expected(outcomes, when, tolerates)
    assert found["step"] == status
    assert found["after"] == (
        "completed" if status == "completed" or (status == "failed" and tolerates) else "skipped"
    )
    if status == "failed":
        assert "when condition error" in Step.objects.get(job_id=job.id, name="step").error
    instances = [name for name in found if name.startswith("step[")]
    assert instances == (["step[0]", "step[1]"] if kind == "loop" and status == "completed" else [])
    bad = bool({"failed", "cancelled"} & set(outcomes)) or (status == "failed" and not tolerates)
    assert job.status == ("failed" if bad else "completed")
    assert job.open_steps == 0
    children = Job.objects.filter(parent_job_id=job.id, parent_step_name="step")
    assert [child.status for child in children] == (
        ["completed"] if kind == "child" and status == "completed" else []
    )


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("outcome", "when", "tolerates", "kind"), CASES, ids=lambda value: str(value)
)
def test_a_step_ends_as_the_table_says(
    table: Workspace, hand: Hand, outcome: str, when: str, tolerates: bool, kind: str
) -> None:
    job = run(table, hand, (outcome,), (when, tolerates, kind))
    check(job, (outcome,), when, tolerates, kind)


@pytest.mark.sample(5)
@pytest.mark.parametrize("tolerates", [False, True], ids=["strict", "cof"])
@pytest.mark.parametrize("pair", JOINS, ids="+".join)
def test_a_join_of_two_ends_as_the_table_says(
    table: Workspace, hand: Hand, pair: tuple[str, str], tolerates: bool
) -> None:
    job = run(table, hand, pair, ("none", tolerates, "plain"))
    check(job, pair, "none", tolerates, "plain")


def test_the_output_of_a_failed_but_tolerated_step_is_null_for_its_dependents(
    tmp_path: Path,
) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
      take: {type: script, script: "true", input: {got: {type: string}}}
    tasks:
      main:
        flow:
          a: {action: work, continue_on_failure: true}
          b: {action: take, depends_on: [a], when: "{{ not a.output }}", input: {got: "{{ a.error }}"}}
    """
    job = start(workspace(tmp_path, text))
    Hand().work({"a": failed("because")})
    assert statuses(job) == {"a": "failed", "b": "completed"}
    assert fresh(job).status == "completed"
