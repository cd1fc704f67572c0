"""Restarting failed steps: which actions are set off again, and from where they are counted."""

from __future__ import annotations

import pytest

from apps.jobs.flow.restarts import restart_failed
from apps.workflow_actions import ledger
from tests.apps.jobs.builders import failed, fresh, start, statuses, workspace
from tests.apps.workflow_actions.doing import specification
from tests.apps.workflow_actions.hands import ActionHand, action, actions, count, runs

pytestmark = pytest.mark.django_db(transaction=True)

RUN = 'action_type: run_commands, commands: ["true"]'
#   job1 --\
#           postprocess_job
#   job2 --/
ACTIONS = """
      - {{name: A, trigger_type: on_jobs_ready, jobs: [postprocess_job], {more}}}
      - {{name: B, trigger_type: on_jobs_complete, jobs: [job1, job2], {more}}}
      - {{name: begin, trigger_type: on_workflow_start, {more}}}
      - {{name: comes, trigger_type: on_worker_start, {more}}}
      - {{name: leaves, trigger_type: on_worker_complete, {more}}}
"""
OURS = """
actions: {do: {type: script, script: "true"}}
tasks:
  main:
    flow:
      job1: {action: do}
      job2: {action: do}
      postprocess_job: {action: do, depends_on: [job1, job2]}
    workflow_actions:
"""
TORC = """
name: main
jobs:
  - {name: job1, command: "true"}
  - {name: job2, command: "true"}
  - {name: postprocess_job, command: "true", depends_on: [job1, job2]}
actions:
"""


class Visitor(ActionHand):
    """A worker that comes to the job and leaves it, as its actions want."""

    def come(self, job) -> list[str]:
        self.session = ledger.enter(self.id, job.id)
        assert self.session is not None
        done = []
        while not ledger.is_entered(self.session):
            done += self.do_actions()
        return done

    def leave(self) -> list[str]:
        assert self.session is not None
        ledger.leave(self.session, "the job has ended")
        done = []
        while not ledger.is_left(self.session):
            done += self.do_actions()
        return done


def first_run(tmp_path, rerun: str | None, notation: str = "torc"):
    """job1 fails, job2 succeeds, postprocess_job does not run: A has not fired, B has."""
    more = RUN + (f", rerun: {rerun}" if rerun else "")
    text = ACTIONS.format(more=more)
    ws = (
        specification(tmp_path, TORC + text)
        if notation == "torc"
        else workspace(tmp_path, OURS + text)
    )
    job = start(ws)
    hand = Visitor()
    assert hand.come(job) == ["begin", "comes"]
    hand.finish(hand.take("job1"), failed())
    assert count(job, "B") == (1, 2) and hand.do_actions() == []
    hand.finish(hand.take("job2"))
    assert statuses(job) == {"job1": "failed", "job2": "completed", "postprocess_job": "skipped"}
    assert hand.do_actions() == ["B"]
    assert hand.leave() == ["leaves"]
    assert fresh(job).status == "failed"
    assert (
        actions(job)["A"] == "skipped"
        and action(job, "A").reason == "none of its steps became ready"
    )
    assert runs(job, "A") == [] and runs(job, "B") == ["succeeded"]
    return job, hand


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("notation", "rerun"),
    [
        ("torc", None),
        ("torc", "always"),
        ("torc", "affected"),
        ("ours", "affected"),
        ("ours", None),
        ("ours", "always"),
    ],
)
def test_after_a_restart_what_is_concerned_fires_again_and_counts_from_the_present(
    tmp_path, notation, rerun
):
    job, hand = first_run(tmp_path, rerun, notation)
    restart_failed(job.id, actor="me")
    assert statuses(job) == {"job1": "ready", "job2": "completed", "postprocess_job": "pending"}
    assert count(job, "B") == (1, 2) and count(job, "A") == (0, 1)
    assert hand.come(job) == ["begin", "comes"], "those fire again"
    hand.finish(hand.take("job1"))
    assert sorted(hand.do_actions()) == ["A", "B"], "B fires again, and A for the first time"
    hand.finish(hand.take("postprocess_job"))
    assert hand.do_actions() == [] and hand.leave() == ["leaves"]
    assert fresh(job).status == "completed"
    assert actions(job) == dict.fromkeys(["A", "B", "begin", "comes", "leaves"], "succeeded")
    assert runs(job, "A") == ["succeeded"]


@pytest.mark.parametrize("notation", ["torc", "ours"])
def test_under_never_what_has_fired_does_not_fire_again(tmp_path, notation):
    job, hand = first_run(tmp_path, "never", notation)
    restart_failed(job.id, actor="me")
    assert hand.come(job) == []
    hand.finish(hand.take("job1"))
    assert hand.do_actions() == ["A"], "A had not fired"
    hand.finish(hand.take("postprocess_job"))
    assert hand.do_actions() == [] and hand.leave() == []
    assert fresh(job).status == "completed"
    assert actions(job) == {
        "A": "succeeded", "B": "skipped", "begin": "skipped", "comes": "skipped", "leaves": "skipped",
    }  # fmt: skip
    assert (
        action(job, "B").reason
        == "it has run before, and `rerun: never` keeps it from running again"
    )


def test_another_failure_of_the_same_step_sets_the_counting_action_off_a_third_time(tmp_path):
    job, hand = first_run(tmp_path, None)
    for _ in range(2):
        restart_failed(job.id, actor="me")
        assert hand.come(job) == ["begin", "comes"]
        hand.finish(hand.take("job1"), failed())
        assert hand.do_actions() == ["B"] and hand.leave() == ["leaves"]
        assert actions(job)["A"] == "skipped"


def test_a_restart_while_an_action_runs_replaces_it(tmp_path):
    ws = specification(tmp_path, TORC + ACTIONS.format(more=RUN))
    job = start(ws)
    hand = ActionHand()
    running = hand.take_action()
    assert running is not None and running.label == "begin"
    for step in ("job1", "job2"):
        hand.finish(hand.take(step), failed())
    restart_failed(job.id, actor="me")
    assert actions(job)["begin"] == "armed", "that of the new generation"
    hand.finish_action(running)
    assert actions(job)["begin"] == "armed" and actions(job, 1)["begin"] in (
        "succeeded",
        "superseded",
    )
    assert "begin" in hand.do_actions()
    assert actions(job)["begin"] == "succeeded"


def test_what_cleans_up_an_untouched_stage_runs_again_only_where_that_is_wanted(tmp_path):
    #   prepare --> work --> report
    text = """
name: main
jobs:
  - {name: prepare, command: "true"}
  - {name: work, command: "true", depends_on: [prepare]}
  - {name: report, command: "true", depends_on: [work]}
actions:
"""
    stage = f"trigger_type: on_jobs_complete, jobs: [prepare], {RUN}"
    text += "".join(
        f"  - {{name: {rerun}, {stage}, rerun: {rerun}}}\n"
        for rerun in ("always", "affected", "never")
    )
    job = start(specification(tmp_path, text))
    hand = ActionHand()
    hand.finish(hand.take("prepare"))
    assert hand.do_actions() == ["always", "affected", "never"]
    hand.finish(hand.take("work"), failed())
    restart_failed(job.id, actor="me")
    assert hand.do_actions() == ["always"]
    assert action(job, "affected").reason == "none of its steps runs again"
    hand.work()
    assert fresh(job).status == "completed" and hand.do_actions() == []
