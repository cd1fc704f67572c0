"""import_workspace, trigger, jobs, logs and cancel as an operator types them."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.accounts.models import User, WorkspaceGrant
from apps.artifacts.state.keeping import Writer
from apps.jobs import ledger
from apps.jobs.models import Job
from apps.workspaces.models import Revision, Workspace
from engine.orders import Line, StepOutcome
from engine.state import Change
from tests.apps.artifacts.remembering import remember
from tests.apps.jobs.builders import DONE, Hand, failed, fresh, start, workspace

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("readers")]
Run = Callable[..., tuple[int, list[str], str]]

FLOW = """
actions: {work: {type: script, script: "true"}}
tasks:
  main:
    input: {name: {type: string, default: x}, count: {type: integer, default: 1}}
    flow: {one: {action: work}, two: {action: work, depends_on: [one]}}
  fragile:
    on_error: [{action: work}]
    flow: {one: {action: work}}
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, lines of stdout and stderr of a command."""

    def run(*words: str) -> tuple[int, list[str], str]:
        capsys.readouterr()
        code, complaint = 0, ""
        try:
            call_command(*words)
        except SystemExit as end:
            code = int(end.code or 0)
        except CommandError as error:
            code, complaint = error.returncode, str(error)
        out, err = capsys.readouterr()
        return code, out.splitlines(), err + complaint

    return run


@contextmanager
def working(outcomes: Mapping[str, StepOutcome] = MappingProxyType({})) -> Iterator[None]:
    """A worker that does whatever becomes ready, and writes a line for each step. Outcomes by
    task."""
    is_over = threading.Event()

    def work() -> None:
        hand = Hand()
        while not is_over.is_set():
            claim = hand.claim()
            if claim is None:
                time.sleep(0.02)
                continue
            hand.start(claim)
            ledger.append(
                claim, 1, [Line(time.time(), "stdout", f"hello from {claim.step_name}\x1b[2J")]
            )
            hand.finish(claim, outcomes.get(claim.task_name, DONE))
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


# import_workspace


def test_a_folder_is_imported_and_its_revision_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    code, out, err = run("import_workspace", "shop", str(tmp_path))
    revision = Revision.objects.get()
    says = ["tasks: fragile, main", "run one with: manage.py trigger shop fragile --follow"]
    assert (code, out, err) == (0, [f"shop: revision {revision.digest[:12]}", *says], "")


def test_the_command_that_starts_a_task_names_the_input_that_it_needs(
    run: Run, tmp_path: Path
) -> None:
    needs = "input: {version: {type: string, required: true}, note: {type: string}}"
    flow = "flow: {s: {type: script, script: 'true'}}"
    (tmp_path / "flow.yaml").write_text(f"tasks: {{release: {{{needs}, {flow}}}}}")
    _, out, _ = run("import_workspace", "shop", str(tmp_path))
    assert out[-1] == "run one with: manage.py trigger shop release --input version=… --follow"


TORC = {
    "yaml": 'name: demo\njobs: [{name: "part_{i}", command: echo, parameters: {i: "1:2"}}]\n',
    "json": (
        '{"name": "demo", "jobs": [{"name": "part_{i}", "command": "echo", "parameters": {"i":'
        ' "1:2"}}]}'
    ),
    "json5": (
        "{name: 'demo', /* two */ jobs: [{name: 'part_{i}', command: 'echo', parameters: {i:"
        " '1:2'},},],}"
    ),
    "kdl": (
        'name "demo"\njob "part_{i}" {\n    command "echo"\n    parameters {\n        i "1:2"\n   '
        " }\n}\n"
    ),
}


@pytest.mark.sample(4)
@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("notation", TORC)
def test_a_torc_file_is_imported_alone_or_in_its_folder_and_runs(
    run: Run, tmp_path: Path, notation: str, is_alone: bool
) -> None:
    file = tmp_path / f"demo.{notation}"
    file.write_text(TORC[notation])
    code, out, err = run("import_workspace", "shop", str(file if is_alone else tmp_path))
    assert (code, err) == (0, "")
    assert out[1:] == ["tasks: demo", "run one with: manage.py trigger shop demo --follow"]
    with working():
        code, out, err = run("trigger", "shop", "demo", "--follow")
    assert (code, err) == (0, "") and "demo: completed" in out
    code, said, _ = run("jobs", out[-1])
    assert code == 0 and sum("step" in line and "part_" in line for line in said) == 2
    code, said, _ = run("logs", out[-1])
    assert code == 0 and any(line.startswith("part_1 | hello") for line in said)


def test_errors_are_listed_with_their_places_and_the_old_revision_stays(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "flow.yaml").write_text("actions: {a: {type: scirpt}}\n")
    code, out, err = run("import_workspace", "shop", str(tmp_path))
    assert (code, out) == (1, [])
    assert err.startswith("flow.yaml:1:")
    assert "shop was not imported; there is no earlier revision." in err
    (tmp_path / "flow.yaml").write_text(FLOW)
    assert run("import_workspace", "shop", str(tmp_path))[0] == 0
    (tmp_path / "flow.yaml").write_text("nonsense: [\n")
    code, out, err = run("import_workspace", "shop", str(tmp_path))
    assert code == 1
    assert f"revision {Revision.objects.get().digest[:12]} stays in force" in err


def test_a_repository_is_imported_by_its_path_and_a_ref(run: Run, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "x"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)
    bare = tmp_path.parent / f"{tmp_path.name}.git"
    subprocess.run(
        ["git", "clone", "-q", "--bare", str(tmp_path), str(bare)], check=True, capture_output=True
    )
    for source, words in (
        (str(tmp_path), ["--ref", "main"]),
        (str(bare), []),
        (f"file://{bare}", []),
    ):
        code, _, err = run("import_workspace", "shop", source, *words)
        assert (code, err) == (0, "")
        assert Workspace.objects.get().source == "git"
    assert len(Revision.objects.get().label) == 40


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["shop", "/nowhere/at/all"],
            "there is nothing at '/nowhere/at/all': give a folder, a Torc file or a git",
        ),
        (["bad name", "."], "letters, digits"),
        (["shop", "ext::sh -c id"], "address"),
        (["shop", "https://user:pw@host/x"], "take the credentials out"),
        (["shop", "https://host/x", "--auth", "none"], "no entry 'none'"),
        (["shop", ".", "--ref=--output=x"], "cannot be a branch"),
        (["shop", ".", "--auth", "a"], "--auth is for git repositories; this is a folder"),
        (["shop", __file__, "--ref", "main"], "--ref is for git repositories; this is a file"),
        (["shop", __file__, "--auth", "a"], "--auth is for git repositories; this is a file"),
        (["shop", ".", "--ref", "main", "--chdir", "/"], "--chdir is for folders and Torc files"),
        (["shop", "https://host/x", "--chdir", "/"], "--chdir is for folders and Torc files"),
        (["shop", ".", "--ref", ""], "argument --ref: is empty: give a value"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(run: Run, words: list[str], sentence: str) -> None:
    code, out, err = run("import_workspace", *words)
    assert code in (1, 2)
    assert out == []
    assert any(part in err for part in sentence.split("|")), err
    assert "Traceback" not in err
    assert "user:pw" not in err


# trigger


def test_a_triggered_job_is_named_in_the_last_line(run: Run, tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "shop")
    given = tmp_path / "name.txt"
    given.write_text("Ada\n@x")
    code, out, _ = run(
        "trigger", "shop", "main", "--input-file", f"name={given}", "--input", "count=7"
    )
    job = Job.objects.get()
    assert (code, out) == (0, [str(job.pk)])
    assert job.input == {"name": "Ada\n@x", "count": 7}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["shop", "none"], "Task 'none' not found"),
        (["none", "main"], "Workspace 'none' not found"),
        (["shop", "main", "--input", "count=x"], "whole number"),
        (["shop", "main", "--input", "other=x"], "other"),
        (["shop", "main", "--input", "name"], "NAME=VALUE"),
        (["shop", "main", "--input", "name=1", "--input", "name=2"], "given twice"),
        (
            ["shop", "main", "--input-file", "name=/nowhere"],
            "/nowhere cannot be read: no such file or directory",
        ),
        (["shop", "main", "--input-file", "name=/dev/zero"], "larger than 1 MB"),
        (["shop", "main", "--input-file", "name=/"], "/ cannot be read: is a directory"),
        (["shop", "main", "--input-file", "name="], "needs the path of a file"),
        (["shop", "main", "--input-file", "name=a\0b"], "needs the path of a file"),
        (["shop", "main", "--input-file", "/etc/hostname"], "--input-file takes NAME=PATH"),
        (["shop", "main", "--input", "name=1", "--input-file", "name=/x"], "given twice"),
    ],
)
def test_what_cannot_be_started_is_one_sentence_and_exit_code_2(
    run: Run, tmp_path: Path, words: list[str], sentence: str
) -> None:
    workspace(tmp_path, FLOW, "shop")
    code, out, err = run("trigger", *words)
    assert (code, out) == (2, [])
    assert sentence in err
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "text",
    [
        "@octocat",
        "@/etc/hostname",
        "@@x=y",
        "-rf",
        "a=b",
        "$(id) `id` {{ 1 }}",
        "  x  ",
        "l\nl",
        "",
    ],
)
def test_the_value_of_an_input_is_the_text_that_was_typed(
    run: Run, tmp_path: Path, text: str
) -> None:
    workspace(tmp_path, FLOW, "shop")
    code, _, err = run("trigger", "shop", "main", "--input", f"name={text}")
    assert (code, err) == (0, "")
    assert Job.objects.get().input["name"] == text


def test_following_shows_lines_and_states_in_plain_text(run: Run, tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "shop")
    with working():
        code, out, _ = run("trigger", "shop", "main", "--follow")
    assert code == 0
    assert out[-1] == str(Job.objects.get().pk)
    assert out[-2] == "main: completed"
    assert out.count("one | hello from one") == out.count("two | hello from two") == 1
    assert not [line for line in out if "\x1b" in line]


def test_following_a_failure_waits_for_the_hooks_and_exits_1(run: Run, tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "shop")
    with working({"fragile": failed("Exit code: 3")}):
        code, out, _ = run("trigger", "shop", "fragile", "--follow")
    assert code == 1
    hook = Job.objects.get(source_type="hook")
    assert hook.status == "completed"
    assert any(line.startswith("hook:work/hook | hello") for line in out)
    assert out[-3:-1] == ["fragile: failed", "  Step 'one': Exit code: 3"]


# jobs, logs, cancel


def test_jobs_are_listed_newest_first(run: Run, tmp_path: Path) -> None:
    shop = workspace(tmp_path, FLOW, "shop")
    first, second = start(shop), start(shop, "fragile")
    code, out, _ = run("jobs")
    assert code == 0
    assert [line.split()[0] for line in out] == ["JOB", str(second.pk), str(first.pk)]
    assert out[1].endswith("shop/fragile")
    assert out[0].index("TASK") == out[1].index("shop/")
    assert len(run("jobs", "--limit", "1")[1]) == 2
    chosen = ["--task", "main", "--workspace", "shop", "--status", "running"]
    assert len(run("jobs", *chosen)[1]) == 2
    found = json.loads(run("jobs", "--json", "--task", "main")[1][0])
    assert (found["job_id"], found["status"]) == (str(first.pk), "running")
    code, _, err = run("jobs", "--limit", "501")
    assert code and "must be a whole number between 1 and 500, not '501'" in err


def test_jobs_of_a_name_that_does_not_exist_are_an_error(run: Run, tmp_path: Path) -> None:
    shop = workspace(tmp_path, FLOW, "shop")
    assert run("jobs") == (0, ["No jobs."], "")
    assert run("jobs", "--workspace", "shop", "--task", "fragile")[:2] == (0, ["No jobs."])
    for words, sentence in (
        (["--workspace", "shopp"], "There is no workspace 'shopp' (did you mean 'shop'?)"),
        (["--task", "mian"], "There is no task 'mian' (did you mean 'main'?)"),
        (["--workspace", "shop", "--task", "x"], "There is no task 'x': `manage.py tasks` lists"),
    ):
        code, out, err = run("jobs", *words)
        assert (code, out) == (2, [])
        assert sentence in err
    job = start(shop, "fragile")  # a former task of a job can still be asked for
    Job.objects.filter(pk=job.pk).update(task_name="former")
    assert run("jobs", "--task", "former")[1][1].endswith("shop/former")


def test_state_is_shown_and_restored(run: Run, tmp_path: Path) -> None:
    shop = workspace(tmp_path, FLOW, "shop")
    assert run("state", "get", "shop", "--task", "main")[1] == ["version 0"]
    assert run("state", "history", "shop")[1] == ["Nothing has been remembered yet."]
    for values in ({"n": 1, "at": "noon"}, {"n": 2}):
        remember(shop.pk, "main", Change(0, values), Writer("restore", by="ada"))
    assert run("state", "get", "shop", "--task", "main")[1] == [
        "version 2", 'at = "noon"', "n = 2",
    ]  # fmt: skip
    assert run("state", "get", "shop", "at", "--task", "main")[1] == ["noon"]
    older = run("state", "get", "shop", "--task", "main", "--version", "1", "--json")[1]
    assert json.loads(older[0])["values"] == {"n": 1, "at": "noon"}
    header, *lines = run("state", "history", "shop", "--task", "main")[1]
    assert header.split()[0] == "VERSION" and [line.split()[0] for line in lines] == ["2", "1"]
    assert run("state", "restore", "shop", "1", "--task", "main")[1] == [
        "Version 1 is back, as version 3."
    ]
    for words, sentence in (
        (("get", "shop", "x", "--task", "main"), "There is no 'x' in version 3"),
        (("get", "shop", "--task", "mian"), "did you mean 'main'"),
        (("restore", "shop", "9", "--task", "main"), "Version 9 of this state is not kept"),
    ):
        code, _, err = run("state", *words)
        assert code == 2 and sentence in err


def test_tasks_are_listed_with_their_inputs(run: Run, tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "shop")
    workspace(tmp_path, FLOW.replace("default: x", "required: true"), "other")
    code, out, _ = run("tasks")
    assert (code, len(out)) == (0, 5)
    assert out[0].split()[:2] == ["WORKSPACE", "TASK"]
    assert out[2].split() == ["other", "main", "name*,", "count"]
    assert [line.split()[1] for line in run("tasks", "shop")[1][1:]] == ["fragile", "main"]
    found = [json.loads(line) for line in run("tasks", "--json")[1]]
    assert found[1]["inputs"]["name"] == {"type": "string", "required": True}
    code, _, err = run("tasks", "shpo")
    assert (code, "did you mean 'shop'" in err) == (2, True)


def test_workspaces_are_listed_and_failing_ones_come_first(run: Run, tmp_path: Path) -> None:
    assert "import_workspace" in run("workspaces")[1][0]
    for name in ("aaa", "bbb", "ccc"):
        workspace(tmp_path, FLOW, name)
    Workspace.objects.filter(name="bbb").update(
        problems=[{"severity": "error", "text": "flow.yaml:1:1: error: no"}]
    )
    Workspace.objects.filter(name="aaa").update(
        problems=[{"severity": "warning", "text": "flow.yaml:2:1: warning: hm"}]
    )
    code, out, err = run("workspaces")
    assert code == 0
    assert [line.split()[:3] for line in out[1:]] == [
        ["bbb", "failed", "2"], ["aaa", "warnings", "2"], ["ccc", "loaded", "2"],
    ]  # fmt: skip
    assert err.splitlines() == [
        "bbb: flow.yaml:1:1: error: no", "aaa: flow.yaml:2:1: warning: hm",
    ]  # fmt: skip
    assert [json.loads(line)["name"] for line in run("workspaces", "--json")[1]] == [
        "bbb", "aaa", "ccc",
    ]  # fmt: skip


def test_who_starts_and_who_cancels_is_noted_and_must_be_allowed_to(
    run: Run, tmp_path: Path
) -> None:
    workspace(tmp_path, FLOW, "shop")
    ada = User.objects.create_user("ada@example.org", "correct horse battery")
    code, _, err = run("trigger", "shop", "main", "--as", "nobody@example.org")
    assert (code, "no active user nobody@example.org" in err) == (2, True)
    code, _, err = run("trigger", "shop", "main", "--as", ada.email)
    assert (code, "lacks the right 'run' on task" in err) == (2, True)
    assert not Job.objects.exists()
    WorkspaceGrant.objects.create(user=ada, pattern="shop", role="operator")
    code, (job_id,), _ = run("trigger", "shop", "main", "--as", ada.email)
    job = Job.objects.get(pk=job_id)
    assert (code, job.started_by, job.source_id) == (0, ada, ada.email)
    bob = User.objects.create_user("bob@example.org", "correct horse battery")
    assert run("cancel", job_id, "--as", bob.email)[0] == 2
    assert fresh(job).status == "running"
    assert run("cancel", job_id, "--as", ada.email)[0] == 0
    assert fresh(job).status == "cancelled"


def test_logs_of_a_job_and_of_one_step(run: Run, tmp_path: Path) -> None:
    job = start(workspace(tmp_path, FLOW, "shop"))
    with working():
        assert run("logs", str(job.pk), "--follow")[0] == 0
    assert run("logs", str(job.pk))[1] == ["one | hello from one", "two | hello from two"]
    assert run("logs", str(job.pk)[:13], "--step", "two")[1] == ["hello from two"]
    code, _, err = run("logs", str(job.pk), "--step", "three")
    assert (code, "no step 'three'" in err) == (2, True)


def test_a_job_is_cancelled_once(run: Run, tmp_path: Path) -> None:
    job = start(workspace(tmp_path, FLOW, "shop"))
    assert run("cancel", str(job.pk).upper())[:2] == (0, [f"{job.pk}: asked to stop"])
    assert fresh(job).status == "cancelled"
    code, _, err = run("cancel", str(job.pk))
    assert code == 1
    assert "already in a terminal state" in err


def test_a_short_id_must_mean_one_job(run: Run, tmp_path: Path) -> None:
    shop = workspace(tmp_path, FLOW, "shop")
    one, two = start(shop), start(shop)
    code, _, err = run("cancel", str(one.pk)[:6])
    assert code == 2
    assert str(one.pk) in err and str(two.pk) in err
    for typed in ("abc", "", "x" * 8, "-", "%%%%", "ffffffff-0000"):
        code, _, err = run("cancel", typed)
        assert code == 2
        assert ("There is no job" if typed.startswith("ffff") else "is not a job id") in err


def test_without_a_database_the_way_out_is_named(run: Run, settings: object) -> None:
    import dataclasses

    from stroem_project.config import Database

    settings.STROEM = dataclasses.replace(settings.STROEM, db=Database(None))  # type: ignore[attr-defined]
    code, _, err = run("jobs")
    assert code == 2
    assert "manage.py up" in err


def test_live_workers_are_listed_however_many_have_stopped(run: Run) -> None:
    from apps.fleet.models import Worker
    from apps.fleet.vitals import ClockTimestamp

    now = dict.fromkeys(("started_at", "heartbeat_at"), ClockTimestamp())

    def rows(name: str, count: int, **values: Any) -> None:
        Worker.objects.bulk_create(
            Worker(name=f"{name}{n}", tags=[], slots=1, version="1", pid=1, **now, **values)
            for n in range(count)
        )

    rows("old", 3)
    rows("stopped", 120, stopped_at=ClockTimestamp())
    names = {json.loads(line)["name"] for line in run("workers", "--json")[1]}
    assert names == {"old0", "old1", "old2"}
    assert len(run("workers", "--json", "--all")[1]) == 123
    rows("new", 120)
    assert len(run("workers", "--json")[1]) == 123


def test_a_list_of_jobs_that_is_cut_says_so(tmp_path: Path, run: Run) -> None:
    held = workspace(tmp_path, FLOW)
    for _ in range(3):
        start(held)
    told = "These are the newest 2: --limit shows up to 500."
    assert told in run("jobs", "--limit", "2")[2]
    assert run("jobs", "--limit", "4")[2] == ""
    assert run("jobs", "--limit", "2", "--json")[2] == ""


def test_an_audit_log_without_such_entries_says_so(run: Run) -> None:
    assert run("audit", "--who", "nobody@example.org") == (0, [], "No entries.\n")
    code, _, complaint = run("audit", "--what", "nonsense")
    assert code == 2 and complaint.startswith("what: 'nonsense' is no kind of object: ")


def test_a_worker_for_a_job_that_has_ended_is_refused(tmp_path: Path) -> None:
    from stroem_project.management.commands.worker import _refuse_ended

    job = start(workspace(tmp_path, FLOW))
    _refuse_ended(job.pk)
    for status in ("completed", "failed", "cancelled"):
        Job.objects.filter(pk=job.pk).update(status=status, completed_at=job.created_at)
        with pytest.raises(CommandError, match=f"--job: job {job.pk} is {status} already"):
            _refuse_ended(job.pk)


def test_a_workspace_that_is_not_imported_is_told_by_plan_and_validate(
    tmp_path: Path, run: Run
) -> None:
    workspace(tmp_path, FLOW, "shop")
    own = str(tmp_path / "shop")
    said = "No workspace 'shpo' is imported here (did you mean 'shop'?)."
    for words in (("plan", own, "main"), ("validate", own)):
        assert said in run(*words, "--workspace", "shpo")[1]
        assert said not in run(*words, "--workspace", "shop")[1]


def test_files_of_a_step_that_is_not_there_are_no_empty_list(tmp_path: Path, run: Run) -> None:
    job = start(workspace(tmp_path, FLOW))
    assert run("artifacts", str(job.pk), "--step", "one") == (0, ["No artifacts."], "")
    code, lines, said = run("artifacts", str(job.pk), "--step", "onne")
    assert (code, lines) == (2, []) and said.endswith("has no step 'onne' (did you mean 'one'?)")
    assert run("artifacts", str(job.pk), "--all") == (0, [], "No artifacts.\n")


def test_a_search_without_a_hit_says_so(tmp_path: Path, run: Run) -> None:
    job = start(workspace(tmp_path, FLOW))
    assert run("logs", str(job.pk), "--search", "zzz") == (0, [], "No line holds this text.\n")


def test_a_folder_for_torc_files_without_one_is_told(tmp_path: Path, run: Run) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    said = run("import_workspace", "shop", str(tmp_path), "--chdir", "/tmp")[2]
    assert "--chdir has no effect: no task comes from a Torc file" in said
    assert "--chdir" not in run("import_workspace", "shop", str(tmp_path))[2]


def test_a_question_that_nobody_answers_ends_a_command(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-D at a question was a traceback."""
    workspace(tmp_path, FLOW, "shop")

    def nothing(*_: object) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", nothing)
    monkeypatch.setattr("builtins.input", nothing)
    for words in (("secrets", "set", "shop", "PASSWORD"), ("remove_workspace", "shop")):
        assert run(*words) == (130, [], "")
    assert Workspace.objects.filter(name="shop").exists()


def test_triggers_without_a_next_run_are_no_empty_table(tmp_path: Path, run: Run) -> None:
    after = "triggers: {after: {type: job, on_job: {task: main}, task: fragile}}\n"
    workspace(tmp_path, FLOW + after, "shop")
    assert "after" in run("triggers", "list", "shop")[1][1]
    assert run("triggers", "next", "shop") == (0, ["None of these triggers has a next run."], "")
