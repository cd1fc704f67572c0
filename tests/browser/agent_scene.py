"""Agent steps for pages: a conversation of 40 turns, and one that waits for a person.

The model is a local service that speaks as Anthropic's; what it sets off runs on the stage's own
worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db.models import F

from tests.apps.jobs.builders import until

if TYPE_CHECKING:
    from apps.jobs.models import Job
    from tests.agents.bench import Bench
    from tests.agents.provider import Seen, Service
    from tests.browser.stage import Stage

FLOW = """
secrets: { token: hunter2-hunter2 }
tasks:
  investigate:
    description: Finds out why a service is slow
    input: { service: { type: string, required: true } }
    flow:
      look-around:
        type: agent
        provider: claude
        system_prompt: |
          You look after services. Look before you answer, and change nothing.
          The metrics need the token {{ secret.token }}.
        prompt: "Find out why {{ input.service }} is slow, and what should be done."
        tools: [{ task: query-metrics }, { task: read-log }]
        output:
          cause: { type: string, required: true }
          advice: { type: string, required: true }
        max_turns: 60
        limits: { cost: 3 }
      file: { type: script, script: echo filed, depends_on: [look-around] }
  roll-out:
    description: Rolls a version out, and asks where it may not decide itself
    flow:
      decide:
        type: agent
        provider: claude
        prompt: "Roll out 2.4 where it is safe"
        interactive: true
        tools: [{ task: query-metrics }, { task: deploy, approval: always }]
        ask_timeout: 8h
      tell: { type: script, script: echo told, depends_on: [decide] }
  query-metrics:
    input: { query: { type: string, required: true }, hours: { type: integer, default: 1 } }
    flow: { go: { type: script, script: "echo 'OUTPUT: {\\"p95_ms\\": 812, \\"requests\\": 48211}'" } }
  read-log:
    input: { service: { type: string, required: true }, lines: { type: integer, default: 50 } }
    flow: { go: { type: script, script: "echo 'the pool of connections is empty' >&2; exit 3" } }
  deploy:
    input: { version: { type: string, required: true }, to: { type: string, required: true } }
    flow: { go: { type: script, script: echo } }
"""
METRICS, LOG = "strom_task_query_metrics", "strom_task_read_log"
DEPLOY = "strom_task_deploy"
LOOKS = (
    "I begin with the response times of the last hour.",
    "The slow requests come from one region. I compare it with the others.",
    "Nothing was deployed there. I look at the database next.",
    "The pool of connections is full at every full hour.",
    "A job of the reports opens many connections at that time. I check when it started to.",
)
ANSWER = {
    "cause": "The hourly report opens 200 connections at once and empties the pool.",
    "advice": "Let the report use at most 20 connections, or move it to the replica.",
}
QUESTION = (
    "The canary in eu-north has 2 % more errors than before. Go on with all regions, or wait?"
)


ROLL_OUT: tuple[dict[str, Any], ...] = (
    {
        "text": "I look at the canary first.",
        "calls": [(METRICS, {"query": "errors of the canary"})],
    },
    {"text": "That needs a decision.", "calls": [("ask_user", {"question": QUESTION})]},
    {"text": "So be it.", "calls": [(DEPLOY, {"version": "2.4", "to": "eu-north"})]},
    {"text": "2.4 is rolled out to eu-north; the other regions wait."},
)


@dataclass
class Agents:
    """A process for agents of the test, before a local service that answers as `script` says."""

    stage: Stage
    service: Service
    bench: Bench
    workspace: str

    def start(self, task: str, **given: str) -> Job:
        return self.stage.start(task, None, self.workspace, **given)

    def until(self, job: Job, step: str, status: str) -> Job:
        """Go on with the conversations until this step has this status."""
        until(lambda: self._work() and _is(job, step, status), within_s=240, every_s=0.05)
        return job

    def _work(self) -> bool:
        self.bench.work()
        return True


@contextmanager
def agents(stage: Stage, turns: int = 40) -> Iterator[Agents]:
    from tests.agents.bench import Bench
    from tests.agents.provider import service

    name = f"services-{turns}"
    with service() as made, _known("claude"):
        made.script = partial(_said, turns)
        given = made.settings(price={"input": 3.0, "output": 15.0})["anthropic"]
        if not stage.has(name):
            stage.workspace(name, FLOW)
        yield Agents(stage, made, Bench({"claude": given}, name=f"agents-{turns}"), name)


@contextmanager
def _known(name: str) -> Iterator[None]:
    """Let this installation have such a provider."""
    from django.conf import settings

    from engine.agents.providers import Provider

    before = settings.STROEM
    here = {name: Provider(type="anthropic", api_key="x")}
    settings.STROEM = replace(before, agents=replace(before.agents, providers=here))
    try:
        yield
    finally:
        settings.STROEM = before


def _said(turns: int, seen: Seen) -> Any:
    from tests.agents.provider import answer

    number = seen.number
    if "Roll out" in seen.text:
        return ROLL_OUT[number] | {"tokens": 700 + 350 * number}
    if number >= turns - 1:
        return answer(**ANSWER) | {"tokens": 900 + 640 * number}
    calls: list[Any] = [(METRICS, {"query": f"p95 of shop-{number}", "hours": 1 + number % 6})]
    if number % 13 == 3:
        calls.append((LOG, {"service": "shop", "lines": 50}))
    if number % 11 == 7:
        calls.append(("strom_task_restart", {"service": "shop"}))
    text = LOOKS[number % len(LOOKS)] if number % 4 != 2 else ""
    return {"text": text, "calls": calls, "tokens": 900 + 640 * number}


def prepare(stage: Stage) -> tuple[Job, Job]:
    """For pictures: a conversation of 40 turns that has ended, and one that waits for a person;
    costs of the days before."""
    from apps.agents.models import Turn

    with agents(stage) as scene:
        _earlier(scene.workspace)
        waiting = scene.until(scene.start("roll-out"), "decide", "suspended")
        long = scene.until(scene.start("investigate", service="shop"), "look-around", "completed")
    Turn.objects.update(latency_s=0.9 + F("seq") % 5 * 0.8)  # a local service answers at once
    return long, waiting


def addresses(stage: Stage) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Pages by name: the address, and what to click on it."""
    from apps.approvals.models import ApprovalRequest

    long, waiting = (f"/admin/jobs/job/{job.pk}/change/" for job in prepare(stage))
    request = ApprovalRequest.objects.get(about="question")
    look, turn = '.st-node[data-label="look-around"]', '[data-seq="4"] summary'
    return {
        "agent": (long, (look,)),
        "agent-turn": (long, (look, turn)),
        "agent-waits": (waiting, ('.st-node[data-label="decide"]',)),
        "agent-costs": ("/admin/", ('h2:has-text("Cost of agents")',)),
        "agent-request": (f"/admin/approvals/approvalrequest/{request.pk}/change/", ()),
    }


def _is(job: Job, step: str, status: str) -> bool:
    from apps.jobs.models import Step

    row = Step.objects.get(job_id=job.pk, name=step)
    assert row.status != "failed", row.error
    return bool(row.status == status)


def _earlier(workspace: str) -> None:
    from apps.agents.models import Spending

    today = datetime.now(UTC).date()
    tasks = (
        ("investigate", "claude", 0.31),
        ("triage", "claude", 0.12),
        ("translate", "local", 0.02),
    )
    Spending.objects.bulk_create(
        Spending(
            day=today - timedelta(days=ago), workspace=workspace, task_name=task, provider=provider,
            answers=20 + ago % 5, unpriced=0, tokens_in=40_000 + 900 * ago, tokens_out=2_000,
            cached=9_000, cost=round(cost * (1 + (ago * 7 % 11) / 4), 4),
        )
        for ago in range(1, 30)
        if ago % 7 not in (2, 3)
        for task, provider, cost in tasks
    )  # fmt: skip
