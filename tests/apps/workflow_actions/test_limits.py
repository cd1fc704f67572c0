"""Where Torc has a limit, and what is here instead.

Limits of the language are in `tests/engine/spec/torc/test_limits.py`, those of real workers in
`tests/acceptance/test_torc_limits.py`, those of allocations in `tests/slurm`.
"""

from __future__ import annotations

import itertools
import os
import re
import time

import pytest

from apps.jobs import ledger
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.models import Attempt, Step, StepEvent
from apps.jobs.upkeep.sweeps import due_steps
from apps.workflow_actions import snapshots
from engine.orders import Verdict
from tests.apps.jobs.builders import failed, fresh, output, start, statuses, until, workspace
from tests.apps.workflow_actions.doing import beside, log_of, server_lines, specification
from tests.apps.workflow_actions.hands import ActionHand, action, actions, count, runs, tries
from workers.attempts import Stop

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

BEGINS = "trigger_type: on_workflow_start"
DO = "action_type: run_commands, commands"


def torc(tmp_path, steps: str, *lines: str):
    """A Torc file: `steps` are lines `name <- needed, needed`, `lines` the actions."""
    text = "name: main\njobs:\n"
    for name, needs in (
        step.split(" <-") if " <-" in step else (step, "") for step in steps.split("; ")
    ):
        text += f'- {{name: {name}, command: "true", depends_on: [{needs}]}}\n'
    return start(
        specification(tmp_path, text + "actions:\n" + "".join(f"- {{{line}}}\n" for line in lines))
    )


def take(hand: ActionHand, label: str):
    claim = hand.take_action()
    assert claim is not None and claim.label == label
    return claim


def test_an_action_waits_for_those_that_it_needs(tmp_path, doer):
    job = torc(
        tmp_path,
        "a",
        f"name: b, needs: [a], {BEGINS}, {DO}: ['date +%s%N > b']",
        f"name: a, {BEGINS}, {DO}: ['sleep 0.5', 'date +%s%N > a']",
    )
    hand = ActionHand()
    first = take(hand, "a")
    assert actions(job) == {"b": "held", "a": "running"} and hand.take_action() is None
    doer.perform(first)
    second = take(hand, "b")
    doer.perform(second)
    (before,), (after,) = tries(job, "a"), tries(job, "b")
    assert after.started_at >= before.ended_at
    folder = ledger.material(second).output_dir
    with open(f"{folder}/a") as a, open(f"{folder}/b") as b:
        assert int(a.read()) < int(b.read())


def test_what_needs_a_failed_action_is_skipped_with_the_reason(tmp_path, doer):
    job = torc(
        tmp_path,
        "a",
        f"name: a, {BEGINS}, {DO}: ['exit 3']",
        f"name: b, needs: [a], {BEGINS}, {DO}: ['true']",
        f"name: c, needs: [b], {BEGINS}, {DO}: ['true']",
    )
    doer.perform(take(ActionHand(), "a"))
    assert actions(job) == {"a": "failed", "b": "skipped", "c": "skipped"}
    assert action(job, "b").reason == "it needs 'a', which failed"
    assert action(job, "c").reason == "it needs 'b', which was skipped"


def test_an_action_looks_at_outcomes_before_it_fires(tmp_path):
    watch = "trigger_type: on_jobs_complete, jobs: [x, y]"
    job = torc(
        tmp_path,
        "x; y",
        f'name: bad, when: "{{{{ event.failed > 0 }}}}", {watch}, {DO}: [x]',
        f"name: good, when: \"{{{{ event.outcome == 'completed' }}}}\", {watch}, {DO}: [x]",
        f"name: which, when: \"{{{{ event.steps.y == 'completed' }}}}\", {watch}, {DO}: [x]",
        f'name: wrong, when: "{{{{ event.nothing.here }}}}", {watch}, {DO}: [x]',
    )
    hand = ActionHand()
    hand.finish(hand.take("x"), failed())
    hand.finish(hand.take("y"))
    found = actions(job)
    assert found == {"bad": "armed", "good": "skipped", "which": "armed", "wrong": "failed"}
    assert action(job, "good").reason == "its condition is false"
    assert action(job, "wrong").reason.startswith("when condition error:")


def test_a_failed_action_is_tried_again_with_a_log_of_each_try(tmp_path, doer):
    script = (
        'n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n; echo "try $((n + 1))"; [ "$n" = 2 ]'
    )
    job = torc(
        tmp_path,
        "a",
        f"name: it, retry: {{max_attempts: 5, delay: 1s}}, {BEGINS}, {DO}: ['{script}', 'echo"
        " after']",
    )
    hand = ActionHand()
    waited = []
    for number in (1, 2, 3):
        claim = until(lambda: (due_steps() and None) or hand.take_action(), within_s=60)
        waited.append(time.monotonic())
        assert claim.number == number
        doer.perform(claim)
    assert min(b - a for a, b in itertools.pairwise(waited)) > 0.9, "it waits between its tries"
    rows = tries(job, "it")
    assert [(run.number, run.status, run.exit_code, run.command) for run in rows] == [
        (1, "failed", 1, 1),
        (2, "failed", 1, 1),
        (3, "succeeded", 0, 2),
    ]
    said = [line for line in log_of(job, "it") if not line.startswith("$")]
    assert said == ["try 1", "try 2", "try 3", "after"]
    assert hand.take_action() is None and actions(job) == {"it": "succeeded"}


def test_one_action_runs_commands_and_asks_for_nodes(tmp_path, doer, sbatch):
    do = (
        "do: [{action_type: run_commands, commands: ['echo one > log']}, {action_type:"
        " schedule_nodes, scheduler: gpu, "
    )
    do += (
        "scheduler_type: slurm}, {action_type: run_commands, commands: ['ls ../../slurm/asked.1 >>"
        " log || true']}]"
    )
    text = (
        'name: main\njobs: [{name: a, command: "true"}]\nslurm_schedulers: [{name: gpu,'
        f" account: lab}}]\nactions: [{{name: both, {BEGINS}, {do}}}]\n"
    )
    job = start(specification(tmp_path, text))
    claim = take(ActionHand("script", "slurm"), "both")
    assert doer.perform(claim).verdict is Verdict.SUCCEEDED
    assert len(sbatch.asked) == 1 and actions(job) == {"both": "succeeded"}
    lines = [line for line in log_of(job, "both") if not line.startswith("$")]
    assert any(re.match(r"Slurm job 1001 was submitted", line) for line in lines)
    assert ActionHand("script").take_action() is None


def test_steps_that_a_loop_adds_while_the_job_runs_are_awaited(tmp_path):
    text = """
actions: {work: {type: script, script: "true"}}
tasks:
  main:
    flow:
      list: {action: work}
      part: {action: work, depends_on: [list], for_each: "{{ list.output.names }}"}
    workflow_actions:
      - {name: done, trigger_type: on_jobs_complete, job_name_regexes: ["part.[0-9]+."],
         action_type: run_commands, commands: ["true"]}
"""
    job = start(workspace(tmp_path, text))
    hand = ActionHand()
    assert count(job, "done") == (0, 0) and actions(job) == {"done": "waiting"}
    hand.finish(hand.take("list"), output({"names": ["x", "y", "z"]}))
    for number in range(3):
        assert count(job, "done") == (number, 3) and actions(job) == {"done": "waiting"}
        hand.finish(hand.take(f"part[{number}]"))
    assert actions(job) == {"done": "armed"} and hand.do_actions() == ["done"]


def test_a_failed_action_shows_its_exit_code_its_words_and_who_did_it(tmp_path, doer):
    job = torc(
        tmp_path,
        "a",
        f"name: it, {BEGINS}, {DO}: ['echo fine', 'echo boom >&2; exit 7', 'echo never']",
    )
    hand = ActionHand(name="host-7")
    doer.perform(take(hand, "it"))
    (seen,) = snapshots.actions_of(fresh(job))
    (run,) = seen["runs"]
    assert (seen["status"], run["status"], run["exit_code"], run["worker"]) == (
        "failed",
        "failed",
        7,
        "host-7",
    )
    assert "boom" in run["error"] and run["duration_secs"] > 0
    assert log_of(job, "it") == ["$ echo fine", "fine", "$ echo boom >&2; exit 7", "boom"]
    hand.work()
    assert fresh(job).status == "completed", "the action's failure is not the job's"


def test_where_its_author_wants_it_the_failure_is_the_jobs(tmp_path, doer):
    job = torc(tmp_path, "a; b <- a", f"name: it, on_failure: fail_job, {BEGINS}, {DO}: ['exit 7']")
    doer.perform(take(ActionHand(), "it"))
    assert (
        fresh(job).status == "failed"
        and "Workflow action 'it' failed: Command failed" in fresh(job).error
    )
    assert set(statuses(job).values()) <= {"failed", "skipped"}


def test_a_failure_after_the_jobs_end_is_said_in_its_log(tmp_path, doer):
    done = "trigger_type: on_workflow_complete"
    job = torc(tmp_path, "a", f"name: it, on_failure: fail_job, {done}, {DO}: ['exit 7']")
    hand = ActionHand()
    hand.work()
    assert fresh(job).status == "completed"
    doer.perform(take(hand, "it"))
    assert fresh(job).status == "completed"
    said = [line for line in server_lines(job) if line.startswith("[actions]")]
    assert len(said) == 1 and said[0].endswith("The job had ended before: it stays completed")


def test_the_first_of_a_chain_fails_and_everything_that_waited_is_told(tmp_path):
    job = torc(
        tmp_path,
        "a; b <- a; c <- b; free",
        f"name: end, trigger_type: on_workflow_complete, {DO}: [x]",
        f"name: chain, trigger_type: on_jobs_complete, jobs: [a, b, c], {DO}: [x]",
        f"name: siblings, trigger_type: on_jobs_ready, jobs: [b, free], {DO}: [x]",
        f"name: nobody, trigger_type: on_jobs_ready, jobs: [b, c], {DO}: [x]",
    )
    hand = ActionHand()
    hand.finish(hand.take("a"), failed())
    assert actions(job) == {
        "end": "waiting",
        "chain": "armed",
        "siblings": "armed",
        "nobody": "skipped",
    }
    hand.finish(hand.take("free"))
    assert sorted(hand.do_actions()) == ["chain", "end", "siblings"]
    assert runs(job, "end") == ["succeeded"] and action(job, "end").outcome == "failed"
    assert hand.do_actions() == []


def test_a_step_that_is_retried_counts_once(tmp_path):
    text = """
name: main
failure_handlers: [{name: again, rules: [{match_all_exit_codes: true, max_retries: 3}]}]
jobs:
  - {name: x, command: "true", failure_handler: again}
  - {name: y, command: "true"}
actions:
  - {name: done, trigger_type: on_jobs_complete, jobs: [x, y], action_type: run_commands, commands: [x]}
"""
    job = start(specification(tmp_path, text))
    hand = ActionHand()
    for _ in range(2):
        hand.finish(hand.take("x"), failed())
        assert count(job, "done") == (0, 2)
        until(
            lambda: due_steps() or Step.objects.get(job_id=job.id, name="x").status == "ready",
            within_s=60,
        )
    hand.finish(hand.take("x"))
    assert count(job, "done") == (1, 2) and actions(job) == {"done": "waiting"}
    hand.finish(hand.take("y"))
    assert hand.do_actions() == ["done"] and runs(job, "done") == ["succeeded"]


def test_a_failure_reaches_all_of_a_diamond_and_nothing_behind_it(tmp_path):
    #   a --> b --\         e --> d2
    #    \--> c --- d       b ----/
    job = torc(tmp_path, "a; b <- a; c <- a; d <- b, c; e; d2 <- b, e")
    hand = ActionHand()
    hand.finish(hand.take("a"), failed())
    hand.work()
    assert statuses(job) == {
        "a": "failed", "b": "skipped", "c": "skipped", "d": "skipped", "e": "completed", "d2": "skipped",
    }  # fmt: skip
    assert fresh(job).status == "failed"


def test_a_long_action_stops_no_step_and_its_time_out_ends_all_of_its_processes(tmp_path, doer):
    command = "sleep 300 & echo $! > child; sleep 300"
    job = torc(
        tmp_path, "a; b <- a; c <- b", f"name: long, timeout: 2s, {BEGINS}, {DO}: ['{command}']"
    )
    hand = ActionHand()
    claim = take(hand, "long")
    outcomes = []
    thread = beside(lambda: outcomes.append(doer.perform(claim)))
    assert hand.work() == 3, "the steps go on beside it"
    thread.join(60)
    assert (
        outcomes[0].verdict is Verdict.TIMED_OUT
        and outcomes[0].error == "Action timed out after 2s"
    )
    with open(f"{ledger.material(claim).output_dir}/child") as file:
        child = int(file.read())
    until(lambda: not os.path.exists(f"/proc/{child}"), within_s=30)
    assert actions(job)["long"] == "failed" and fresh(job).status == "completed"


def test_a_cancelled_job_ends_the_commands_in_hand(tmp_path, doer):
    torc(tmp_path, "a", f"name: long, {BEGINS}, {DO}: ['echo on > on; sleep 300']")
    claim = take(ActionHand(), "long")
    folder = ledger.material(claim).output_dir
    stop = Stop()
    outcomes = []
    thread = beside(lambda: outcomes.append(doer.perform(claim, stop)))
    until(lambda: os.path.exists(f"{folder}/on"), within_s=60)
    stop.set("cancel")
    thread.join(60)
    assert outcomes[0].verdict is Verdict.CANCELLED


def test_every_move_of_an_action_is_an_event_of_its_job(tmp_path, doer):
    job = torc(
        tmp_path,
        "a",
        f"name: it, {BEGINS}, {DO}: ['true']",
        f"name: bad, {BEGINS}, {DO}: ['exit 1']",
    )
    hand = ActionHand()
    doer.perform(take(hand, "it"))
    doer.perform(take(hand, "bad"))
    rows = StepEvent.objects.filter(job_id=job.id, kind__startswith="action_").order_by("id")
    events = [(row.kind.removeprefix("action_"), row.detail.partition(":")[0]) for row in rows]
    assert [kind for kind, label in events if label == "it"] == ["armed", "running", "succeeded"]
    assert [kind for kind, label in events if label == "bad"] == ["armed", "running", "failed"]


def test_every_attempt_of_every_generation_is_kept(tmp_path):
    text = """
name: main
failure_handlers: [{name: again, rules: [{exit_codes: [3], max_retries: 2}]}]
jobs: [{name: x, command: "true", failure_handler: again}]
"""
    job = start(specification(tmp_path, text))
    hand = ActionHand()

    def fail_for_good() -> None:
        for _ in range(2):
            until(
                lambda: due_steps() or Step.objects.get(job_id=job.id, name="x").status == "ready",
                within_s=60,
            )
            claim = hand.take("x")
            assert hand.start(claim)
            hand.finish(claim, failed(code=3))

    fail_for_good()
    assert fresh(job).status == "failed"
    restart_failed(job.id)
    fail_for_good()
    step = Step.objects.get(job_id=job.id, name="x")
    rows = Attempt.objects.filter(step_id=step.id).order_by("fence")
    assert [row.exit_code for row in rows] == [3, 3, 3, 3]
    assert len({row.pk for row in rows}) == 4 and step.status == "failed"
