"""Tools: child jobs that a model starts, and how its step waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import Call, Conversation
from apps.conductor import services as conductor
from apps.jobs import services as jobs
from apps.jobs.models import Attempt, Job
from apps.jobs.upkeep import sweeps
from engine.planner import JOB_CANCELLED
from tests.agents.bench import Bench, known_providers, step_of
from tests.agents.provider import Service, call, say, service
from tests.apps.jobs.builders import Hand, failed, fresh, output, start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
KINDS = pytest.mark.parametrize("kind", ["openai", "anthropic"])
TOOL = "strom_task_look_up"


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings)
    with service() as made:
        yield made
    Conversation.objects.all().delete()


def ask(tmp_path: Path, kind: str = "openai", more: str = "", lookup: str = "") -> Job:
    text = f"""
    secrets: {{ token: hunter2-hunter2 }}
    tasks:
      main:
        flow:
          ask:
            type: agent
            provider: {kind}
            prompt: "Find Ann"
            tools: [{{ task: look-up }}]
            {more}
      look-up:
        description: Finds a person
        {lookup}
        input:
          name: {{ type: string, required: true }}
          times: {{ type: integer, default: 1 }}
          password: {{ type: string, secret: true, default: "{{{{ secret.token }}}}" }}
        flow:
          find: {{ type: script, script: "echo" }}
    """
    return start(workspace(tmp_path, text))


def child_of(job: Job) -> Job:
    return Job.objects.filter(parent_job_id=job.id).latest("created_at")


@KINDS
def test_a_tool_is_a_child_job_and_its_output_is_what_the_model_reads(
    tmp_path: Path, service: Service, kind: str
) -> None:
    service.answers(call(TOOL, {"name": "Ann"}), say("She is in room 5"))
    job, bench = ask(tmp_path, kind), Bench(service.settings())

    assert bench.work() == 1

    step, child = step_of(job), child_of(job)
    assert (step.status, child.source_type, child.input["name"]) == ("running", "agent_tool", "Ann")
    assert not Attempt.objects.filter(step_id=step.pk, ended_at=None).exists()
    assert service.seen[0].tools == [TOOL]
    assert "Finds a person" in service.seen[0].text and "password" not in service.seen[0].text
    Hand().work({"find": output({"room": 5, "key": "hunter2-hunter2"})})
    assert step_of(job).status == "ready"

    assert bench.work() == 1

    step = step_of(job)
    assert step.status == "completed" and step.output["text"] == "She is in room 5"
    assert step.attempts == 1 and step.output["_meta"]["tool_calls"] == 1
    assert '\\"room\\": 5' in service.seen[1].text and "hunter2" not in service.seen[1].text
    assert fresh(job).status == "completed"


@pytest.mark.sample(2)
@KINDS
def test_several_calls_run_at_the_same_time(tmp_path: Path, service: Service, kind: str) -> None:
    both = {"calls": [(TOOL, {"name": "Ann"}), (TOOL, {"name": "Bob"})]}
    service.answers(both, say("Both are here"))
    job, bench, hand = ask(tmp_path, kind), Bench(service.settings()), Hand()
    bench.work()

    assert Job.objects.filter(parent_job_id=job.id).count() == 2
    first = hand.take("find")
    hand.finish(first, output({"n": 1}))
    assert step_of(job).status == "running" and bench.work() == 0
    hand.work({"find": output({"n": 2})})

    assert bench.work() == 1 and step_of(job).output["text"] == "Both are here"


def test_a_failed_tool_is_told_and_the_model_may_go_on(tmp_path: Path, service: Service) -> None:
    service.answers(call(TOOL, {"name": "Ann"}), say("I could not find her"))
    job, bench = ask(tmp_path), Bench(service.settings())
    bench.work()
    Hand().work({"find": failed("nobody is there")})

    bench.work()

    assert "The task failed" in service.seen[1].text and "find" in service.seen[1].text
    assert fresh(job).status == "completed"


@pytest.mark.sample(9)
@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ((TOOL, {}), "name"),
        ((TOOL, {"name": "Ann", "times": "many"}), "times"),
        ((TOOL, {"name": "Ann", "password": "x"}), "The tool has no arguments 'password'"),
        ((TOOL, "{not json"), "The arguments must be a JSON object"),
        ((TOOL, "[1]"), "The arguments must be a JSON object"),
        (("rm_rf", {}), f"There is no tool 'rm_rf'. There are: {TOOL}"),
        (("strom_task_main", {}), "There is no tool 'strom_task_main'"),
        (("mcp_files_read", {}), "There is no tool"),
        ((TOOL + "\u0000", {}), "There is no tool"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_with_words(
    tmp_path: Path, service: Service, wanted: Any, told: str
) -> None:
    service.answers({"calls": [wanted]}, say("Sorry"))
    job, bench = ask(tmp_path), Bench(service.settings())

    bench.work()

    assert told in service.seen[1].text
    assert not Job.objects.filter(parent_job_id=job.id).exists()
    assert Call.objects.get().status == "refused" and fresh(job).status == "completed"


def test_tool_calls_are_limited(tmp_path: Path, service: Service) -> None:
    service.answers({"calls": [(TOOL, {"name": str(n)}) for n in range(5)]}, say("Enough"))
    job, bench = ask(tmp_path, more="limits: { tool_calls: 2 }"), Bench(service.settings())
    bench.work()

    assert Job.objects.filter(parent_job_id=job.id).count() == 2
    Hand().work()
    bench.work()

    assert service.seen[1].text.count("The limit of tool calls is reached") == 3


@pytest.mark.long
def test_a_retried_child_is_waited_for(tmp_path: Path, service: Service) -> None:
    service.answers(call(TOOL, {"name": "Ann"}), say("Found"))
    retry = "retry: { max_attempts: 2, delay: 1s }"
    job, bench, hand = ask(tmp_path, lookup=retry), Bench(service.settings()), Hand()
    bench.work()
    first = child_of(job)
    hand.work({"find": failed("once")})

    second = child_of(job)
    assert second.id != first.id and Call.objects.get().child_job_id == second.id
    assert step_of(job).status == "running" and sweeps.forsaken_children() == 0
    Job.objects.filter(id=second.id).update(due_at=fresh(second).created_at)
    sweeps.due_jobs()
    hand.work({"find": output({"room": 5})})
    bench.work()

    assert fresh(job).status == "completed" and '\\"room\\": 5' in service.seen[1].text


def test_a_cancelled_job_ends_its_tools_and_its_agent(tmp_path: Path, service: Service) -> None:
    service.answers(call(TOOL, {"name": "Ann"}))
    job, bench = ask(tmp_path), Bench(service.settings())
    bench.work()

    jobs.cancel_job(job.id, actor="ann", reason="")

    assert child_of(job).status == "cancelled"
    assert fresh(job).status == "cancelled" and step_of(job).error == JOB_CANCELLED
    assert bench.work() == 0 and len(service.seen) == 1


@pytest.mark.long
def test_a_time_out_counts_while_tools_work(tmp_path: Path, service: Service) -> None:
    service.answers(call(TOOL, {"name": "Ann"}))
    job, bench = ask(tmp_path, more="timeout: 1h"), Bench(service.settings())
    bench.work()
    step = step_of(job)
    assert step.deadline_at is not None
    type(step).objects.filter(pk=step.pk).update(deadline_at=step.started_at)

    conductor.tick()

    step = step_of(job)
    assert (step.status, step.error) == ("failed", "Step timed out after 3600s")
    assert fresh(job).status == "failed" and child_of(job).status == "cancelled"


@pytest.mark.long
def test_an_end_that_a_crash_kept_back_is_told_by_the_sweep(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answers(call(TOOL, {"name": "Ann"}), say("Found"))
    job, bench = ask(tmp_path), Bench(service.settings())
    bench.work()
    with monkeypatch.context() as crash:
        crash.setattr("apps.jobs.flow.children.tell_parent", lambda child_id: None)
        Hand().work({"find": output({"room": 5})})
    assert step_of(job).status == "running"

    sweeps.untold_parents()
    bench.work()

    assert fresh(job).status == "completed"


def test_an_agent_in_a_loop_has_a_conversation_for_each_item(
    tmp_path: Path, service: Service
) -> None:
    service.script = lambda seen: say("B" if "Bob" in seen.text else "A")
    text = """
    tasks:
      main:
        flow:
          ask:
            type: agent
            provider: openai
            for_each: [Ann, Bob]
            prompt: "Greet {{ each.item }}, {{ input.n }}"
            input: { n: "{{ each.index }}" }
    """
    job = start(workspace(tmp_path, text))

    Bench(service.settings()).work()

    assert [one["text"] for one in step_of(job).output] == ["A", "B"]
    assert {"Greet Ann, 0" in seen.text for seen in service.seen} == {True, False}


@pytest.mark.long
def test_a_long_result_is_cut(tmp_path: Path, service: Service) -> None:
    service.answers(call(TOOL, {"name": "Ann"}), say("Long"))
    job, bench = ask(tmp_path), Bench(service.settings())
    bench.work()
    Hand().work({"find": output({"x": "y" * 200_000})})

    bench.work()

    assert fresh(job).status == "completed"
    assert len(service.seen[1].text) < 60_000 and "[cut: 200,0" in service.seen[1].text
