"""The moments that set actions off, and how steps are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.jobs import services as jobs
from apps.workflow_actions.models import JobAction
from tests.apps.jobs.builders import failed, fresh, start, statuses, workspace
from tests.apps.workflow_actions.hands import ActionHand, action, actions, count, runs

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = "actions: {do: {type: script, script: 'true'}}\n"


def flow(tmp_path: Path, text: str):
    return workspace(tmp_path, STEPS + text)


def test_a_start_action_is_armed_with_the_first_steps_and_done_once(tmp_path):
    ws = flow(
        tmp_path,
        """tasks:
  main:
    flow: {a: {action: do}, b: {action: do, depends_on: [a]}}
    workflow_actions:
      - {name: begin, trigger_type: on_workflow_start, action_type: run_commands, commands: ["true"]}
      - {name: end, trigger_type: on_workflow_complete, action_type: run_commands, commands: ["true"]}
""",
    )
    job = start(ws)
    assert actions(job) == {"begin": "armed", "end": "waiting"}
    hand = ActionHand()
    assert hand.do_actions() == ["begin"]
    assert hand.do_actions() == []
    hand.work()
    assert fresh(job).status == "completed"
    assert actions(job) == {"begin": "succeeded", "end": "armed"}
    assert hand.do_actions() == ["end"]
    assert action(job, "end").outcome == "completed"


def test_ready_and_complete_wait_for_all_selected_steps(tmp_path):
    #   a --> b1, b2 --> c
    ws = flow(
        tmp_path,
        """tasks:
  main:
    flow:
      a: {action: do}
      b1: {action: do, depends_on: [a]}
      b2: {action: do, depends_on: [a]}
      c: {action: do, depends_on: [b1, b2]}
    workflow_actions:
      - {name: r, trigger_type: on_jobs_ready, jobs: [b1], job_name_regexes: ["b[0-9]"],
         action_type: run_commands, commands: ["true"]}
      - {name: d, trigger_type: on_jobs_complete, job_name_regexes: ["b.*"],
         action_type: run_commands, commands: ["true"]}
""",
    )
    job = start(ws)
    hand = ActionHand()
    assert actions(job) == {"r": "waiting", "d": "waiting"} and count(job, "r") == (0, 2)
    hand.finish(hand.take("a"))
    assert actions(job) == {"r": "armed", "d": "waiting"} and count(job, "r") == (2, 2)
    hand.finish(hand.take("b1"))
    assert count(job, "d") == (1, 2)
    hand.finish(hand.take("b2"))
    assert actions(job)["d"] == "armed"
    assert sorted(hand.do_actions()) == ["d", "r"]


def test_every_path_to_an_end_counts(tmp_path):
    #   a --> b --> c        x (waits, then cancelled)
    ws = flow(
        tmp_path,
        """tasks:
  main:
    flow:
      a: {action: do}
      b: {action: do, depends_on: [a]}
      c: {action: do, depends_on: [b]}
      x: {action: do}
    workflow_actions:
      - {name: skipped, trigger_type: on_jobs_complete, jobs: [b, c], action_type: run_commands, commands: ["true"]}
      - {name: all, trigger_type: on_jobs_complete, jobs: [a, b, c, x], action_type: run_commands, commands: ["true"]}
      - {name: never, trigger_type: on_jobs_ready, jobs: [b, c], action_type: run_commands, commands: ["true"]}
      - {name: some, trigger_type: on_jobs_ready, jobs: [x, c], action_type: run_commands, commands: ["true"]}
      - {name: end, trigger_type: on_workflow_complete, action_type: run_commands, commands: ["true"]}
""",
    )
    job = start(ws)
    hand = ActionHand()
    hand.finish(hand.take("a"), failed())
    assert statuses(job) == {"a": "failed", "b": "skipped", "c": "skipped", "x": "ready"}
    assert actions(job) == {
        "skipped": "armed", "all": "waiting", "never": "skipped", "some": "armed", "end": "waiting",
    }  # fmt: skip
    assert action(job, "never").reason == "none of its steps became ready"
    jobs.cancel_job(job.id, actor="me")
    found = actions(job)
    assert found["all"] == "armed" and found["end"] == "armed"
    assert found["some"] == "cancelled"  # nobody had begun it, and its job is cancelled
    assert action(job, "all").outcome == "failed" and action(job, "end").outcome == "cancelled"
    assert sorted(hand.do_actions()) == ["all", "end", "skipped"]


def test_a_retried_step_counts_once(tmp_path):
    ws = flow(
        tmp_path,
        """tasks:
  main:
    flow: {a: {action: do, retry: {max_attempts: 2, delay: 1s}}, b: {action: do}}
    workflow_actions:
      - {name: done, trigger_type: on_jobs_complete, jobs: [a, b], action_type: run_commands, commands: ["true"]}
""",
    )
    job = start(ws)
    hand = ActionHand()
    hand.finish(hand.take("a"), failed())
    assert count(job, "done") == (0, 2)
    from apps.jobs.models import Step
    from apps.jobs.upkeep.sweeps import due_steps
    from tests.apps.jobs.builders import until

    until(
        lambda: due_steps() or Step.objects.filter(job_id=job.id, name="a", status="ready").exists()
    )
    hand.finish(hand.take("a"))
    assert count(job, "done") == (1, 2) and actions(job) == {"done": "waiting"}
    hand.finish(hand.take("b"))
    assert hand.do_actions() == ["done"]


def test_steps_that_a_loop_adds_later_are_awaited(tmp_path):
    ws = flow(
        tmp_path,
        """tasks:
  main:
    flow:
      a: {action: do}
      part: {action: do, depends_on: [a], for_each: ["x", "y", "z"], max_parallel: 1}
    workflow_actions:
      - {name: r, trigger_type: on_jobs_ready, job_name_regexes: ["part\\\\[.*\\\\]"],
         action_type: run_commands, commands: ["true"]}
      - {name: d, trigger_type: on_jobs_complete, jobs: ["part[0]", "part[1]"],
         action_type: run_commands, commands: ["true"]}
""",
    )
    job = start(ws)
    hand = ActionHand()
    assert actions(job) == {"r": "waiting", "d": "waiting"} and count(job, "r") == (0, 0)
    hand.finish(hand.take("a"))
    assert actions(job)["r"] == "armed" and count(job, "r") == (3, 3) and count(job, "d") == (0, 2)
    hand.finish(hand.take("part[0]"))
    assert actions(job)["d"] == "waiting"
    hand.finish(hand.take("part[1]"))
    assert actions(job)["d"] == "armed"
    assert runs(job, "d") == ["ready"]


def test_jobs_without_actions_have_no_rows(tmp_path):
    job = start(flow(tmp_path, "tasks: {main: {flow: {a: {action: do}}}}"))
    ActionHand().work()
    assert fresh(job).status == "completed" and not JobAction.objects.exists()
