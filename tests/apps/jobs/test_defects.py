"""Mistakes that workflow platforms make, one test each; each test fails where the mistake would
be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.db.models import F

from apps.hooks.models import HookRun
from apps.jobs import ledger, services
from apps.jobs.flow import blueprints
from apps.jobs.models import Job, Step
from apps.jobs.upkeep import sweeps
from apps.workspaces import revisions
from apps.workspaces.ledger import archive
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder, refresh
from engine.errors import InputError
from engine.orders import StepOutcome, Verdict
from tests.apps.jobs.builders import Hand, failed, fresh, output, start, statuses, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)
from workers.rendering import Rendered, render

pytestmark = pytest.mark.django_db(transaction=True)

WORK = """
actions:
  work: {type: script, script: "true"}
  call: {type: task, task: inner}
"""


def rendered(claim: ledger.Claim) -> Rendered:
    return render(claim, ledger.material(claim))


def test_a_caller_s_braces_are_data_and_never_a_template(tmp_path: Path) -> None:
    text = """
    secrets: {token: super-secret-value}
    actions:
      work:
        type: script
        script: "echo {{ input.name }}"
        input: {name: {type: string}, other: {type: string, default: "{{ secret.token }}"}}
    tasks:
      main:
        input: {name: {type: string}}
        flow: {a: {action: work, input: {name: "{{ input.name }}"}}}
    """
    start(workspace(tmp_path, text), name="{{ secret.token }} {% for x in y %}")
    order = rendered(Hand().take("a"))
    assert order.input["name"] == "{{ secret.token }} {% for x in y %}"
    assert order.script == "echo {{ secret.token }} {% for x in y %}"
    assert order.input["other"] == "super-secret-value"


def test_a_cancelled_job_is_not_tried_again_by_a_step_that_has_retries_left(tmp_path: Path) -> None:
    text = 'actions:\n  work: {type: script, script: "true", retry: {max_attempts: 5, delay: 1s}}\n'
    job, hand = (
        start(workspace(tmp_path, text + "tasks:\n  main: {flow: {a: {action: work}}}\n")),
        Hand(),
    )
    claim = hand.take("a")
    services.cancel_job(job.id, actor="me")
    hand.finish(claim, failed())
    Step.objects.filter(job_id=job.id).update(retry_at=F("ready_at"))
    assert sweeps.due_steps() == 0 and hand.claim() is None
    assert statuses(job) == {"a": "cancelled"} and fresh(job).status == "cancelled"


def test_a_loop_behind_a_failed_step_is_skipped_and_the_job_ends(tmp_path: Path) -> None:
    flow = (
        "tasks:\n  main: {flow: {a: {action: work}, b: {action: work, depends_on: [a], for_each:"
        " [1, 2]}}}\n"
    )
    job = start(workspace(tmp_path, WORK.replace("  call: {type: task, task: inner}\n", "") + flow))
    Hand().work({"a": failed()})
    assert statuses(job) == {"a": "failed", "b": "skipped"} and fresh(job).status == "failed"


@pytest.mark.parametrize(
    ("items", "status", "end"),
    [
        ([], "skipped", "completed"),
        ("no list", "failed", "failed"),
        ([{"deep": [1]}], "completed", "completed"),
    ],
)
def test_a_loop_that_is_skipped_or_fails_in_the_middle_of_a_job_sets_the_rest_going(
    tmp_path: Path, items: Any, status: str, end: str
) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
    tasks:
      main:
        flow:
          a: {action: work}
          b: {action: work, depends_on: [a], for_each: "{{ a.output.items }}"}
          c: {action: work, depends_on: [b], continue_on_failure: true}
    """
    job = start(workspace(tmp_path, text))
    Hand().work({"a": output({"items": items})})
    found = statuses(job)
    assert (found["b"], found["c"]) == (status, "completed") and fresh(job).status == end


def test_a_child_that_cannot_be_made_or_is_too_deep_fails_its_step_and_the_parent_ends(
    tmp_path: Path,
) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
      strict: {type: task, task: needs-input}
      ping: {type: task, task: ping}
      pong: {type: task, task: pong}
    tasks:
      needs-input: {input: {n: {type: integer, required: true}}, flow: {a: {action: work}}}
      ping: {flow: {a: {action: pong}}}
      pong: {flow: {a: {action: ping}}}
      main: {flow: {a: {action: strict}, b: {action: work, depends_on: [a]}}}
    """
    found = workspace(tmp_path, text)
    job = start(found)
    assert statuses(job) == {"a": "failed", "b": "skipped"} and fresh(job).status == "failed"
    assert "'n' is required" in Step.objects.get(job_id=job.id, name="a").error
    deep = start(found, "ping")
    assert fresh(deep).status == "failed"
    chain = Job.objects.filter(workspace=found, task_name__in=["ping", "pong"])
    assert chain.count() == 11 and set(chain.values_list("status", flat=True)) == {"failed"}
    assert (
        "Maximum task nesting depth (10) exceeded"
        in Step.objects.get(job=chain.get(depth=10)).error
    )


def test_a_child_that_is_over_as_soon_as_it_begins_tells_its_parent_and_fires_its_hooks(
    tmp_path: Path,
) -> None:
    text = (
        WORK
        + """
tasks:
  inner: {flow: {a: {action: work, when: "false"}}, on_success: [{action: work}]}
  main: {flow: {a: {action: call}, b: {action: work, depends_on: [a]}}}
"""
    )
    job = start(workspace(tmp_path, text))
    child = Job.objects.get(parent_job_id=job.id)
    assert (
        child.status == "completed"
        and HookRun.objects.filter(job_id=child.id, event="on_success").count() == 1
    )
    Hand().work()
    assert (
        statuses(job) == {"a": "completed", "b": "completed"} and fresh(job).status == "completed"
    )


def test_a_condition_that_fails_at_the_root_fails_the_job(tmp_path: Path) -> None:
    text = (
        WORK
        + "tasks:\n  inner: {flow: {a: {action: work}}}\n  main: {flow: {a: {action: work, when:"
        ' "{{ nope.x }}"}}}\n'
    )
    job = start(workspace(tmp_path, text))
    assert statuses(job) == {"a": "failed"} and fresh(job).status == "failed"


def test_a_running_step_that_is_cancelled_ends_cancelled_and_not_failed(tmp_path: Path) -> None:
    text = WORK + "tasks:\n  inner: {flow: {a: {action: work}}}\n"
    job, hand = start(workspace(tmp_path, text), "inner"), Hand()
    claim = hand.take("a")
    services.cancel_job(job.id, actor="me")
    hand.finish(claim, StepOutcome(Verdict.CANCELLED, exit_code=-15, error="Job cancelled"))
    assert statuses(job) == {"a": "cancelled"} and fresh(job).status == "cancelled"


def test_a_request_to_cancel_outlives_every_process_that_heard_of_it(tmp_path: Path) -> None:
    job, hand = (
        start(
            workspace(tmp_path, WORK + "tasks:\n  inner: {flow: {a: {action: work}}}\n"), "inner"
        ),
        Hand(),
    )
    claim = hand.take("a")
    services.cancel_job(job.id, actor="me")
    blueprints.forget()  # a server that starts anew knows nothing but the rows
    for _ in range(2):
        assert ledger.renew(hand.id, {claim.attempt_id: claim.fence}, 1).cancelled == {
            claim.attempt_id
        }


def test_the_retry_of_a_task_starts_it_again_as_often_as_it_says(tmp_path: Path) -> None:
    text = (
        WORK + "tasks:\n  inner: {retry: {max_attempts: 3, delay: 1s}, flow: {a: {action: work}}}\n"
    )
    first, hand = start(workspace(tmp_path, text), "inner"), Hand()
    for _ in range(4):
        hand.work({"a": failed()})
        Job.objects.filter(workspace=first.workspace, due_at__isnull=False).update(
            due_at=F("created_at")
        )
        sweeps.due_jobs()
    runs = Job.objects.filter(workspace=first.workspace).order_by("retry_attempt")
    assert [(run.source_type, run.retry_attempt, run.status) for run in runs] == [
        ("api", 0, "failed"),
        ("retry", 1, "failed"),
        ("retry", 2, "failed"),
    ]
    assert list(runs.values_list("retry_of_id", flat=True)) == [None, first.id, first.id]


def test_the_files_of_a_superseded_revision_stay_while_a_job_needs_them(tmp_path: Path) -> None:
    found = workspace(tmp_path, WORK + "tasks:\n  inner: {flow: {a: {action: work}}}\n")
    job = start(found, "inner")
    folder = Path(found.location)
    for number in range(3):
        (folder / "data.txt").write_text(str(number))
        refresh(found)
    found.refresh_from_db()
    assert found.current_id != job.revision_id
    assert archive(Hand().take("a").revision_id)


def test_a_task_that_changes_or_goes_while_a_job_runs_changes_nothing_in_that_job(
    tmp_path: Path,
) -> None:
    flow = "{a: {action: work}, b: {action: call, depends_on: [a]}}"
    text = WORK + f"tasks:\n  inner: {{flow: {{a: {{action: work}}}}}}\n  main: {{flow: {flow}}}\n"
    found = workspace(tmp_path, text)
    job, hand = start(found), Hand()
    claim = hand.take("a")
    (Path(found.location) / "workflow.yaml").write_text(
        'actions:\n  other: {type: script, script: "false"}\ntasks:\n  else: {flow: {z: {action:'
        " other}}}\n"
    )
    assert not refresh(found).has_failed
    blueprints.forget()
    hand.finish(claim)
    hand.work()
    assert (
        statuses(job) == {"a": "completed", "b": "completed"} and fresh(job).status == "completed"
    )


HOOKED = """
actions:
  work: {type: script, script: "true"}
  call: {type: task, task: inner}
  ask: {type: approval, message: "Go on?"}
  note: {type: script, script: "true"}
tasks:
  main: {flow: {a: {action: work}}}
  at-once: {flow: {a: {action: work, when: "false"}}}
  inner: {flow: {a: {action: ask}}, on_suspended: [{action: note}]}
  asks: {flow: {a: {action: call}}}
on_success: [{action: note}]
"""


def fired(job: Job) -> list[str]:
    return list(HookRun.objects.filter(job_id=job.id, error="").values_list("event", flat=True))


def test_hooks_fire_for_every_kind_of_job(tmp_path: Path) -> None:
    found = workspace(tmp_path, HOOKED)
    first, hand = start(found), Hand()
    hand.work()
    again = services.rerun_job(first.id, actor=None)
    emitted = services.start_job(
        found.name, "main", {}, source_type="event_source", source_id="x/y"
    )
    at_once = start(found, "at-once")
    hand.work()
    for job in (first, again, emitted, at_once):
        assert fresh(job).status == "completed" and fired(job) == ["on_success"]


def test_on_suspended_fires_for_an_approval_at_the_root_of_a_child(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, HOOKED), "asks")
    child = Job.objects.get(parent_job_id=job.id)
    assert statuses(child) == {"a": "suspended"} and fired(child) == ["on_suspended"]


def test_a_workspace_with_a_typing_error_is_refused_with_its_place_and_the_last_good_one_stays(
    tmp_path: Path,
) -> None:
    found = workspace(tmp_path, WORK + "tasks:\n  inner: {flow: {a: {action: work}}}\n")
    good = found.current_id
    (Path(found.location) / "workflow.yaml").write_text(
        "actions:\n  work: {type: script, script: x, timout: 5}\ntasks:\n  main: {flow: {a:"
        " {action: wrok}}}\n"
    )
    broken = refresh(found)
    assert broken.has_failed and broken.current_id == good
    told = [problem["text"] for problem in broken.problems]
    assert "workflow.yaml:2:" in told[0] and "did you mean 'timeout'?" in told[0]
    assert "workflow.yaml:4:" in told[1] and "did you mean 'work'?" in told[1]
    assert start(found, "inner").status == "pending"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "input 'count' is required"),
        ({"count": "many"}, "input 'count' must be a whole number, not 'many'"),
        ({"count": 1, "size": "xxl"}, "input 'size' must be one of small, large, not 'xxl'"),
        ({"count": 1, "cuont": 2}, "input 'cuont' is not declared (did you mean 'count'?)"),
        ({"count": 1, "day": "2026-02-30"}, "input 'day' must be a date"),
    ],
)
def test_wrong_input_is_refused_before_there_is_a_job(
    tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
    tasks:
      main:
        input:
          count: {type: integer, required: true}
          size: {type: string, options: [small, large]}
          day: {type: date}
        flow: {a: {action: work}}
    """
    found = workspace(tmp_path, text)
    with pytest.raises(InputError) as told:
        start(found, **given)
    assert str(told.value).startswith(sentence)
    assert not Job.objects.filter(workspace=found).exists()
    assert start(found, count="7").input == {"count": 7}


def test_a_loop_goes_over_the_very_list_that_an_expression_names(tmp_path: Path) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
      take: {type: script, script: "true", input: {name: {type: string}, size: {type: integer}}}
    tasks:
      main:
        flow:
          a: {action: work}
          b:
            action: take
            depends_on: [a]
            for_each: "{{ a.output.items }}"
            input: {name: "{{ each.item.name }}", size: "{{ each.item.size }}"}
    """
    start(workspace(tmp_path, text))
    hand = Hand()
    hand.finish(
        hand.take("a"), output({"items": [{"name": "x, y", "size": 1}, {"name": "z", "size": 2}]})
    )
    assert rendered(hand.take("b[0]")).input == {"name": "x, y", "size": 1}
    assert rendered(hand.take("b[1]")).input == {"name": "z", "size": 2}


def test_every_input_is_in_the_environment_of_the_step(tmp_path: Path) -> None:
    text = """
    actions:
      work: {type: script, script: "true", input: {first-name: {type: string}, sizes: {type: string}}}
    tasks:
      main: {flow: {a: {action: work, input: {first-name: "A'; rm -rf /", sizes: "7", list: [1, {x: y}]}}}}
    """
    start(workspace(tmp_path, text))
    env = rendered(Hand().take("a")).env
    assert env["STROEM_INPUT_FIRST_NAME"] == "A'; rm -rf /"
    assert (env["STROEM_INPUT_SIZES"], env["STROEM_INPUT_LIST"]) == ("7", '[1, {"x": "y"}]')


def test_a_hook_is_an_ordinary_step_with_defaults_connections_time_out_and_retry(
    tmp_path: Path,
) -> None:
    text = """
    connection_types: {db: {host: {type: string}}}
    connections: {main: {type: db, host: db.example.org}}
    actions:
      work: {type: script, script: "true"}
      note:
        type: script
        script: "true"
        timeout: 90
        retry: {max_attempts: 2, delay: 1s}
        input:
          db: {type: db}
          who: {type: string, default: everybody}
          what: {type: string}
    tasks:
      main:
        flow: {a: {action: work}}
        on_success: [{action: note, input: {db: main, what: "{{ hook.task_name }}"}}]
    """
    job, hand = start(workspace(tmp_path, text)), Hand()
    hand.finish(hand.take("a"))
    claim = hand.take("hook")
    assert claim.timeout_s == 90
    assert rendered(claim).input == {
        "db": {"host": "db.example.org"},
        "who": "everybody",
        "what": "main",
    }
    hand.finish(claim, failed())
    hook = Job.objects.get(source_type="hook", source_id=str(job.id))
    assert Step.objects.get(job=hook).status == "pending"  # and tried again
    assert fresh(job).status == "completed"


def test_skipped_and_failed_steps_are_null_in_the_templates_of_later_ones(tmp_path: Path) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
      take: {type: script, script: "true", input: {a: {type: string}, b: {type: string}, c: {type: string}}}
    tasks:
      main:
        flow:
          bad: {action: work, continue_on_failure: true}
          none: {action: work, when: "false"}
          good: {action: work}
          last:
            action: take
            depends_on: [bad, none, good]
            input:
              a: "{{ bad.output | default(value='A') }}"
              b: "{{ none.output | default(value='B') }}"
              c: "{{ good.output.x }}"
              d: "{{ bad.output }}"
              e: "<{{ none.output }}>"
    """
    start(workspace(tmp_path, text))
    hand = Hand()
    for name, end in (("bad", failed()), ("good", output({"x": "C"}))):
        hand.finish(hand.take(name), end)
    found = rendered(hand.take("last")).input
    assert {name: found[name] for name in "abc"} == {"a": "A", "b": "B", "c": "C"}
    assert found.get("d") is None and found["e"] == "<>"  # there, and null: not unknown


# Mistakes of the same kind that this platform has made.


def test_a_delayed_run_of_a_task_with_a_limit_does_not_wait_for_itself(tmp_path: Path) -> None:
    text = (
        WORK
        + "tasks:\n  inner: {max_concurrent_jobs: 1, retry: {max_attempts: 2, delay: 1s}, flow: {a:"
        " {action: work}}}\n"
    )
    job, hand = start(workspace(tmp_path, text), "inner"), Hand()
    hand.work({"a": failed()})
    Job.objects.filter(retry_of_id=job.id).update(due_at=F("created_at"))
    sweeps.due_jobs()
    hand.work()
    assert Job.objects.get(retry_of_id=job.id).status == "completed"


def test_a_job_within_a_job_of_the_same_limited_task_does_not_wait_for_it(tmp_path: Path) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
      down: {type: task, task: middle}
      again: {type: task, task: main}
    tasks:
      main:
        max_concurrent_jobs: 1
        input: {depth: {type: integer, default: 0}}
        flow: {a: {action: down, when: "{{ input.depth == 0 }}"}, b: {action: work}}
      middle: {flow: {a: {action: again, input: {depth: 1}}}}
    """
    job = start(workspace(tmp_path, text))
    Hand().work()
    assert fresh(job).status == "completed"


def test_the_time_out_of_a_delayed_run_counts_from_when_it_is_due(tmp_path: Path) -> None:
    text = (
        WORK
        + "tasks:\n  inner: {timeout: 60, retry: {max_attempts: 2, delay: 1h}, flow: {a: {action:"
        " work}}}\n"
    )
    job, hand = start(workspace(tmp_path, text), "inner"), Hand()
    hand.work({"a": failed()})
    following = Job.objects.get(retry_of_id=job.id)
    assert following.due_at and following.deadline_at
    assert (following.deadline_at - following.due_at).total_seconds() == 60


def test_an_old_child_has_no_say_in_the_next_generation_of_its_parent(tmp_path: Path) -> None:
    from apps.jobs.flow.children import tell_parent
    from apps.jobs.flow.restarts import restart_failed

    text = (
        WORK
        + "tasks:\n  inner: {flow: {a: {action: work}}}\n  main: {flow: {a: {action: call, timeout:"
        " 60}}}\n"
    )
    job, hand = start(workspace(tmp_path, text)), Hand()
    old = hand.take("a")
    Step.objects.filter(job_id=job.id).update(deadline_at=F("started_at"))
    sweeps.overdue_children()
    assert fresh(job).status == "failed"
    restart_failed(job.id)
    hand.finish(old)  # the old child ends only now
    tell_parent(old.job_id)
    assert statuses(job) == {"a": "running"}
    hand.work()
    assert statuses(job) == {"a": "completed"} and fresh(job).status == "completed"


def test_secrets_that_cannot_be_resolved_any_more_fail_steps_and_hooks_but_no_job_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    from dataclasses import replace

    text = """
    secrets: {token: "ref+env://FLOW_TEST_TOKEN"}
    actions:
      work: {type: script, script: "true"}
      note: {type: script, script: "true"}
    tasks:
      main:
        flow:
          a: {action: work}
          b: {action: work, depends_on: [a], when: "{{ secret.token }}"}
        on_error: [{action: note}]
    """
    monkeypatch.setenv("FLOW_TEST_TOKEN", "a-long-enough-value")
    settings.STROEM = replace(
        settings.STROEM, secrets=replace(settings.STROEM.secrets, env_allowed=("FLOW_TEST_TOKEN",))
    )
    found = workspace(tmp_path, text)
    job, hand = start(found), Hand()
    claim = hand.take("a")
    monkeypatch.delenv("FLOW_TEST_TOKEN")
    revisions._known.clear()
    revisions._looked_at.clear()
    hand.finish(claim)
    assert statuses(job) == {"a": "completed", "b": "failed"} and fresh(job).status == "failed"
    assert "FLOW_TEST_TOKEN" in Step.objects.get(job_id=job.id, name="b").error
    assert "FLOW_TEST_TOKEN" in HookRun.objects.get(job_id=job.id).error


def test_a_hook_s_task_that_is_tried_again_fires_no_hooks_of_its_own(tmp_path: Path) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
      mend: {type: task, task: mending}
    tasks:
      main: {flow: {a: {action: work}}}
      mending: {retry: {max_attempts: 2, delay: 1s}, flow: {a: {action: work}}}
    on_error: [{action: mend}]
    """
    found = workspace(tmp_path, text)
    start(found)
    hand = Hand()
    for _ in range(4):
        hand.work({"a": failed()})
        Job.objects.filter(workspace=found, due_at__isnull=False).update(due_at=F("created_at"))
        sweeps.due_jobs()
    assert list(
        Job.objects.filter(workspace=found)
        .order_by("created_at")
        .values_list("source_type", flat=True)
    ) == ["api", "hook", "retry"]


def test_text_that_no_database_can_hold_is_stored_as_far_as_it_can_be(tmp_path: Path) -> None:
    found = workspace(tmp_path, WORK + "tasks:\n  inner: {flow: {a: {action: work}}}\n")
    job, hand = start(found, "inner"), Hand()
    hand.finish(hand.take("a"), failed("nul \x00 and half \ud800 end"))
    assert (
        fresh(job).status == "failed"
        and fresh(job).error == "Step 'a': nul \ufffd and half \ufffd end"
    )
    other = start(found, "inner")
    hand.finish(hand.take("a"), output({"x\x00": ["\ud800", float("nan")]}))
    assert fresh(other).output == {"a": {"x\ufffd": ["\ufffd", None]}}


def test_a_null_for_an_input_means_its_default_rendered(tmp_path: Path) -> None:
    text = """
    secrets: {token: super-secret-value}
    actions:
      work: {type: script, script: "true", input: {pw: {type: string}}}
    tasks:
      main:
        input: {pw: {type: string, secret: true, default: "{{ secret.token }}"}}
        flow: {a: {action: work, input: {pw: "{{ input.pw }}"}}}
    """
    job = start(workspace(tmp_path, text), pw=None)
    assert rendered(Hand().take("a")).input == {"pw": "super-secret-value"}
    assert "super" not in str(fresh(job).input)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (
            "main",
            "step 'a' needs the provider 'p' of language models, which this installation does not",
        ),
        (
            "calls",
            (
                "step 'a' of task 'main', which this task starts, needs the provider 'p' of language"
                " models, which this installation does not have; `agents.providers` names none"
            ),
        ),
        (
            "far",
            (
                "step 'a' of task 'main', which this task starts, needs the provider 'p' of language"
                " models, which this installation does not have; `agents.providers` names none"
            ),
        ),
    ],
)
def test_a_job_that_needs_a_language_model_is_refused_at_once_however_deep_it_is(
    tmp_path: Path, task: str, told: str
) -> None:
    from engine.errors import AuthorError

    text = """
    actions:
      think: {type: agent, provider: p, prompt: "Think"}
      work: {type: script, script: "true"}
      call: {type: task, task: main}
      call-again: {type: task, task: calls}
      round: {type: task, task: round}
      back: {type: task, task: back}
    tasks:
      main: {flow: {a: {action: think}}}
      calls: {flow: {first: {action: work}, b: {action: call, depends_on: [first], for_each: [1, 2]}}}
      far: {flow: {around: {action: round}, c: {action: call-again, when: "{{ input.n }}"}}}
      round: {flow: {a: {action: back, when: "false"}}}
      back: {flow: {a: {action: round}}}
    """
    found = workspace(tmp_path, text)
    with pytest.raises(AuthorError) as refused:
        start(found, task)
    assert str(refused.value).startswith(told)
    assert not Job.objects.filter(workspace=found).exists()
    # a task that would start itself for ever is no agent
    assert fresh(start(found, "round")).status == "completed"


def test_the_server_s_setting_refuses_unsafe_templates_of_every_workspace(
    tmp_path: Path, settings: Any
) -> None:
    from dataclasses import replace

    folder = tmp_path / "strict"
    folder.mkdir()
    (folder / "w.yaml").write_text(
        'actions:\n  a: {type: script, script: "echo {{ input.name }}", input: {name: {type:'
        " string}}}\n"
    )
    assert not import_folder("lax", folder).has_failed
    settings.STROEM = replace(settings.STROEM, unsafe_templates="refuse")
    refused: Workspace = import_folder("strict", folder)
    assert refused.has_failed and "is pasted into shell code" in refused.problems[0]["text"]
