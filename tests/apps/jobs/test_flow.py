"""A job from its start to its end, on a real database, with a worker by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.jobs import services
from apps.jobs.models import Attempt, Job, Step, StepEvent
from engine.errors import Conflict, InputError, NotFound
from tests.apps.jobs.builders import Hand, failed, fresh, output, start, statuses, workspace

pytestmark = pytest.mark.django_db(transaction=True)

DIAMOND = """
actions:
  work: {type: script, script: "true"}
tasks:
  main:
    flow:
      a: {action: work}
      b: {action: work, depends_on: [a]}
      c: {action: work, depends_on: [a]}
      d: {action: work, depends_on: [b, c]}
"""


def test_a_diamond_runs_in_order_and_completes(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, DIAMOND))
    hand = Hand()
    assert hand.work() == 4
    assert hand.seen[0] == "a" and hand.seen[3] == "d" and set(hand.seen[1:3]) == {"b", "c"}
    assert statuses(job) == dict.fromkeys("abcd", "completed")
    assert fresh(job).status == "completed"


def test_a_failed_branch_skips_only_what_hangs_on_it(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, DIAMOND))
    Hand().work({"b": failed("boom")})
    assert statuses(job) == {"a": "completed", "b": "failed", "c": "completed", "d": "skipped"}
    assert fresh(job).status == "failed"
    assert fresh(job).error == "Step 'b': boom"


def test_the_output_of_a_job_is_that_of_its_last_steps(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, DIAMOND))
    Hand().work({"a": output(1), "d": output({"n": 2})})
    assert fresh(job).output == {"d": {"n": 2}}


def test_a_late_report_changes_nothing(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, DIAMOND))
    hand = Hand()
    claim = hand.take("a")
    assert hand.finish(claim).accepted
    assert not hand.finish(claim, failed()).accepted
    assert statuses(job)["a"] == "completed"
    assert fresh(job).open_steps == 3


def test_a_step_given_back_is_ready_again_and_an_old_claim_counts_no_more(tmp_path: Path) -> None:
    from apps.jobs import ledger

    job = start(workspace(tmp_path, DIAMOND))
    hand = Hand()
    old = hand.take("a")
    ledger.give_back(old)
    new = hand.take("a")
    assert new.fence == old.fence + 1 and new.number == old.number == 1
    assert not hand.start(old)
    assert not hand.finish(old).accepted
    assert hand.finish(new).accepted
    assert Attempt.objects.filter(job_id=job.id, status="lost").count() == 1


def test_every_move_leaves_an_event(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, DIAMOND))
    Hand().work()
    kinds = list(
        StepEvent.objects.filter(job_id=job.id).order_by("id").values_list("kind", flat=True)
    )
    assert kinds.count("unblocked") == kinds.count("claimed") == kinds.count("succeeded") == 4
    assert kinds[0] == "job_started" and kinds[-1] == "job_succeeded"


def test_conditions_are_evaluated_when_their_dependencies_are_settled(tmp_path: Path) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
    tasks:
      main:
        input:
          env: {type: string}
        flow:
          a: {action: work}
          go: {action: work, depends_on: [a], when: "{{ a.output.n > 1 }}"}
          stay: {action: work, depends_on: [a], when: "{{ input.env == 'prod' }}"}
          after-stay: {action: work, depends_on: [stay]}
          join: {action: work, depends_on: [go, after-stay]}
          wrong: {action: work, depends_on: [a], when: "{{ a.output.nothing }}"}
    """
    job = start(workspace(tmp_path, text), env="dev")
    Hand().work({"a": output({"n": 2})})
    found = statuses(job)
    assert found == {
        "a": "completed",
        "go": "completed",
        "stay": "skipped",
        "after-stay": "skipped",
        "join": "completed",
        "wrong": "failed",
    }
    assert "when condition error" in Step.objects.get(job_id=job.id, name="wrong").error
    assert fresh(job).status == "failed"


LOOP = """
actions:
  work: {type: script, script: "true", input: {item: {type: string}}}
tasks:
  main:
    flow:
      list: {action: work}
      each: {action: work, depends_on: [list], for_each: "{{ list.output.items }}", input: {item: "{{ each.item }}"} %s}
      after: {action: work, depends_on: [each]}
"""


def test_a_loop_runs_all_items_and_gathers_their_output_in_order(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, LOOP % ""))
    hand = Hand()
    results = {
        "list": output({"items": ["x", "y", "z"]}),
        "each[0]": output(0),
        "each[2]": output(2),
    }
    assert hand.work(results) == 5
    assert fresh(job).status == "completed"
    loop = Step.objects.get(job_id=job.id, name="each")
    assert loop.status == "completed" and loop.output == [0, None, 2]
    assert statuses(job)["each[1]"] == "completed"


def test_an_empty_loop_is_skipped_and_the_job_goes_on_to_its_end(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, LOOP % ""))
    Hand().work({"list": output({"items": []})})
    assert statuses(job) == {"list": "completed", "each": "skipped", "after": "skipped"}
    assert fresh(job).status == "completed"


def test_a_failed_instance_fails_its_loop(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, LOOP % ""))
    Hand().work({"list": output({"items": [1, 2, 3]}), "each[0]": failed(), "each[2]": failed()})
    loop = Step.objects.get(job_id=job.id, name="each")
    assert (loop.status, loop.error) == ("failed", "for_each loop failed: instances [0, 2] failed")
    assert statuses(job)["after"] == "skipped"


def test_a_sequential_loop_stops_at_the_first_failure(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, LOOP % ", sequential: true"))
    hand = Hand()
    hand.work({"list": output({"items": [1, 2, 3]}), "each[1]": failed()})
    found = statuses(job)
    assert [found[f"each[{i}]"] for i in range(3)] == ["completed", "failed", "skipped"]
    assert fresh(job).status == "failed"


def test_a_claim_says_whether_there_is_more_that_its_worker_may_take(tmp_path: Path) -> None:
    text = """
        actions:
          plain: {type: script, script: "true"}
          gpu: {type: script, script: "true", tags: [gpu]}
          arm: {type: script, script: "true", tags: [arm]}
        tasks:
          main: {flow: {a: {action: plain}, b: {action: gpu}, c: {action: arm}}}
    """
    start(workspace(tmp_path, text))
    both, one = Hand("script", "gpu"), Hand("script")
    assert both.claim().is_more, "a step of another of its tag sets"
    assert not both.claim().is_more, "what is left is for workers with another tag"
    start(workspace(tmp_path, text))
    assert not one.claim().is_more


def test_a_loop_never_has_more_instances_out_than_max_parallel(tmp_path: Path) -> None:
    start(workspace(tmp_path, LOOP % ", max_parallel: 2"))
    hand = Hand()
    hand.finish(hand.take("list"), output({"items": list("abcde")}))
    first, second = hand.take("each[0]"), hand.take("each[1]")
    assert hand.claim() is None
    hand.finish(second)
    third = hand.take("each[2]")
    assert hand.claim() is None
    hand.finish(first)
    hand.finish(third)
    assert hand.work() == 3


def test_retry_counts_runs_and_waits_in_between(tmp_path: Path) -> None:
    from apps.jobs.upkeep import sweeps

    text = """
    actions:
      work: {type: script, script: "true", retry: {max_attempts: 2, delay: 1s}}
    tasks:
      main: {flow: {a: {action: work}}}
    """
    job = start(workspace(tmp_path, text))
    hand = Hand()
    hand.finish(hand.take("a"), failed("first"))
    step = Step.objects.get(job_id=job.id)
    assert step.status == "pending" and step.retry_at is not None
    assert sweeps.due_steps() == 0
    Step.objects.filter(id=step.id).update(retry_at=step.ready_at)
    assert sweeps.due_steps() == 1
    second = hand.take("a")
    assert second.number == 2
    hand.finish(second, failed("second"))
    assert fresh(job).status == "failed" and fresh(job).error == "Step 'a': second"


def test_cancel_ends_what_waits_at_once_and_what_runs_when_it_reports(tmp_path: Path) -> None:
    from apps.jobs import ledger

    job = start(workspace(tmp_path, DIAMOND))
    hand = Hand()
    claim = hand.take("a")
    services.cancel_job(job.id, actor="me@example.org")
    assert statuses(job) == {"a": "running", "b": "cancelled", "c": "cancelled", "d": "cancelled"}
    assert ledger.renew(hand.id, {claim.attempt_id: claim.fence}, 1).cancelled == {claim.attempt_id}
    from engine.orders import StepOutcome, Verdict

    hand.finish(claim, StepOutcome(Verdict.CANCELLED, error="Job cancelled"))
    assert statuses(job)["a"] == "cancelled"
    assert fresh(job).status == "cancelled"
    with pytest.raises(Conflict, match="already in a terminal state"):
        services.cancel_job(job.id, actor="me@example.org")


CHILD = """
actions:
  work: {type: script, script: "true"}
  sub: {type: task, task: child}
tasks:
  child:
    input: {n: {type: integer, required: true}}
    flow: {inner: {action: work}}
  main:
    flow:
      first: {action: work}
      call: {action: sub, depends_on: [first], input: {n: "{{ first.output.n }}"}}
      last: {action: work, depends_on: [call]}
"""


def test_a_child_job_carries_its_output_back(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, CHILD))
    Hand().work({"first": output({"n": 7}), "inner": output("deep")})
    child = Job.objects.get(parent_job_id=job.id)
    assert (
        child.input == {"n": 7}
        and child.source_type == "task"
        and child.source_id == f"{job.id}/call"
    )
    assert Step.objects.get(job_id=job.id, name="call").output == {"inner": "deep"}
    assert fresh(job).status == "completed"


def test_a_failed_child_fails_the_step_and_skips_what_follows(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, CHILD))
    Hand().work({"first": output({"n": 7}), "inner": failed("inside")})
    found = statuses(job)
    assert (found["call"], found["last"]) == ("failed", "skipped")
    assert "Child job" in Step.objects.get(job_id=job.id, name="call").error


def test_a_child_that_cannot_start_fails_the_step(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, CHILD))
    Hand().work({"first": output({"n": "many"})})
    step = Step.objects.get(job_id=job.id, name="call")
    assert step.status == "failed" and "Failed to create child job" in step.error
    assert fresh(job).status == "failed"


def test_cancelling_a_job_cancels_its_children(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, CHILD))
    hand = Hand()
    hand.finish(hand.take("first"), output({"n": 1}))
    services.cancel_job(job.id, actor="x")
    child = Job.objects.get(parent_job_id=job.id)
    assert child.status == "cancelled" and fresh(job).status == "cancelled"
    assert statuses(job)["call"] == "cancelled"


def test_wrong_input_and_unknown_tasks_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    found = workspace(tmp_path, CHILD)
    with pytest.raises(InputError, match="'n' is required"):
        start(found, "child")
    with pytest.raises(NotFound, match="Task 'nope' not found"):
        start(found, "nope")
    assert Job.objects.count() == 0


HOOKS = """
actions:
  work: {type: script, script: "true"}
  note: {type: script, script: "true", input: {text: {type: string}}}
tasks:
  main:
    flow: {a: {action: work}}
    on_success: [{action: note, input: {text: "{{ hook.task_name }} {{ hook.status }}"}}]
    on_error: [{action: note, input: {text: "{{ hook.error_message }}"}}]
"""


def test_a_hook_starts_one_job_with_the_context_rendered(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, HOOKS))
    hand = Hand()
    hand.work()
    hook = Job.objects.get(source_type="hook")
    assert hook.source_id == str(job.id) and hook.task_name == "_hook:note"
    assert hook.input == {"text": "main completed"}
    assert hook.status == "completed"
    assert Job.objects.count() == 2


def test_an_error_with_braces_in_it_is_data_for_a_hook(tmp_path: Path) -> None:
    start(workspace(tmp_path, HOOKS))
    Hand().work({"a": failed("{{ secret.x }}")})
    assert Job.objects.get(source_type="hook").input == {"text": "Step 'a': {{ secret.x }}"}


def test_restarting_failed_steps_keeps_what_completed_and_opens_the_next_generation(
    tmp_path: Path,
) -> None:
    from apps.jobs.flow.restarts import restart_failed

    job = start(workspace(tmp_path, DIAMOND))
    hand = Hand()
    hand.work({"b": failed()})
    restart_failed(job.id, actor="me@example.org")
    assert statuses(job) == {"a": "completed", "b": "ready", "c": "completed", "d": "pending"}
    again = fresh(job)
    assert (again.status, again.generation, again.open_steps, again.bad_steps) == (
        "running",
        2,
        2,
        0,
    )
    assert hand.work() == 2
    assert fresh(job).status == "completed"
    with pytest.raises(Conflict, match="only a failed or cancelled job"):
        restart_failed(job.id)


def test_restarting_a_loop_runs_only_the_instances_that_failed(tmp_path: Path) -> None:
    from apps.jobs.flow.restarts import restart_failed

    job = start(workspace(tmp_path, LOOP % ", max_parallel: 1"))
    hand = Hand()
    hand.work(
        {
            "list": output({"items": [1, 2, 3, 4]}),
            "each[1]": failed(),
            "each[3]": failed(),
            "each[0]": output(0),
        }
    )
    restart_failed(job.id)
    hand.seen.clear()
    hand.work({"each[3]": output(3)})
    assert hand.seen == ["each[1]", "each[3]", "after"]
    assert Step.objects.get(job_id=job.id, name="each").output == [0, None, None, 3]
    assert fresh(job).status == "completed"


def test_a_task_with_retry_runs_again_as_a_new_job_and_hooks_wait_for_the_last(
    tmp_path: Path,
) -> None:
    from apps.jobs.upkeep import sweeps

    text = HOOKS.replace(
        "    flow: {a: {action: work}}",
        "    retry: {max_attempts: 2, delay: 1s}\n    flow: {a: {action: work}}",
    )
    job = start(workspace(tmp_path, text))
    hand = Hand()
    hand.work({"a": failed("one")})
    second = Job.objects.get(retry_of_id=job.id)
    assert (
        fresh(job).retry_job_id == second.id
        and second.source_type == "retry"
        and second.due_at is not None
    )
    assert not Job.objects.filter(source_type="hook").exists()
    Job.objects.filter(id=second.id).update(due_at=second.created_at)
    assert sweeps.due_jobs() == 1
    hand.work({"a": failed("two")})
    assert fresh(second).status == "failed"
    assert Job.objects.get(source_type="hook").input == {"text": "Step 'a': two"}


def test_a_task_with_a_limit_holds_what_is_over_it(tmp_path: Path) -> None:
    from apps.jobs.upkeep import sweeps

    text = DIAMOND.replace("  main:\n", "  main:\n    max_concurrent_jobs: 1\n")
    found = workspace(tmp_path, text)
    first, second = start(found), start(found)
    assert fresh(second).is_held and fresh(second).status == "pending"
    assert sweeps.due_jobs() == 1 and fresh(second).is_held
    Hand().work()
    assert fresh(first).status == "completed" and fresh(second).status == "pending"
    sweeps.due_jobs()
    assert not fresh(second).is_held and fresh(second).status == "running"
