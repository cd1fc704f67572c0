"""Jobs of one workspace whose ends start tasks of another: only where the owner's files say so."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from apps.accounts.models import Role
from apps.jobs import ledger
from apps.jobs.models import Job
from apps.triggers import services, waiting
from apps.triggers.models import Firing, Trigger
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder
from tests.apps.jobs.builders import Hand, failed, output, start, workspace
from tests.apps.triggers.builders import jobs, outcomes, trigger
from tests.apps.triggers.test_pages import page, person

pytestmark = pytest.mark.django_db(transaction=True)
OWNER = """
secrets: { key: s3cret-value }
tasks:
  build:
    input: { who: { type: string } }
    flow: { work: { type: script, script: "true" } }
"""
WATCHER = """
tasks:
  publish:
    input: { what: { type: string }, job: { type: string } }
    flow: { work: { type: script, script: "true" } }
triggers:
  built:
    type: job
    on_job: { workspace: product, task: build, status: [completed, failed] }
    task: publish
    input: { job: "{{ job.job_id }}", what: "READ" }
"""
TO_SITE = "exports: { job_ends: { build: { to: [site] } } }"
WITH_OUTPUT = "exports: { job_ends: { build: { to: [site], output: true } } }"


def owner(folder: Path, exports: str = "") -> Workspace:
    """`product`, read again if it is there."""
    root = folder / "product"
    if not root.exists():
        return workspace(folder, OWNER + exports, "product")
    (root / "workflow.yaml").write_text(dedent(OWNER) + exports)
    return import_folder("product", root)


def watcher(folder: Path, reads: str = "{{ job.status }}", text: str = WATCHER) -> Workspace:
    return workspace(folder, text.replace("READ", reads), "site")


def build(result: object = None) -> Job:
    job = start(Workspace.objects.get(name="product"), "build", who="ann")
    Hand().work({"work": failed("no disk") if result is None else output(result)})
    waiting.go_on_due()
    return job


def warnings(found: Workspace) -> list[tuple[int, str]]:
    return [(problem["line"], problem["message"]) for problem in found.problems]


def test_a_granted_end_starts_a_job_in_another_workspace(tmp_path: Path) -> None:
    owner(tmp_path, TO_SITE)
    assert watcher(tmp_path).problems == []
    job = build({})
    waiting.go_on_due()
    (started,) = jobs(task_name="publish")
    assert started.input == {"job": str(job.pk), "what": "completed"}
    assert started.workspace.name == "site" and started.source_id == "site/built"
    assert outcomes("built") == [("started", f"{job.pk}:1")]
    assert dict(services.troubles()) == {}


def test_a_failure_is_told_if_the_trigger_asks_for_it(tmp_path: Path) -> None:
    owner(tmp_path, TO_SITE)
    watcher(tmp_path)
    build()
    (started,) = jobs(task_name="publish")
    assert started.input["what"] == "failed"


@pytest.mark.parametrize(
    "exports",
    ["", "exports: { job_ends: { build: { to: [other] } } }"],
    ids=["nothing", "to another"],
)
def test_without_the_grant_no_job_starts_and_everybody_is_told(
    tmp_path: Path, exports: str
) -> None:
    workspace(tmp_path, "tasks: {}", "other")
    owner(tmp_path, exports)
    ((line, sentence),) = warnings(watcher(tmp_path))
    assert (
        line == WATCHER.splitlines().index("  built:") + 1
        and "no workspace 'product' exports" in sentence
    )
    assert "exports: {job_ends: {build: {to: [site]}}}" in sentence
    build({})
    assert jobs(task_name="publish") == [] and outcomes("built") == []
    assert "exports the ends" in dict(services.troubles())["site/built"]
    shown = person(Role.VIEWER).get(page(trigger("built"))).content.decode()
    assert "It does not fire: no workspace &#x27;product&#x27; exports" in shown


def test_a_warning_does_not_tell_which_workspaces_and_tasks_there_are(tmp_path: Path) -> None:
    before = warnings(watcher(tmp_path))
    owner(tmp_path)
    after = warnings(import_folder("site", tmp_path / "site"))
    text = WATCHER.replace("READ", "").replace("task: build", "task: secret-plan")
    other = warnings(workspace(tmp_path, text, "elsewhere"))
    assert before == after
    plain = after[0][1].replace("build", "secret-plan").replace("'site'", "'elsewhere'")
    assert other[0][1] == plain.replace("[site]", "[elsewhere]")


def test_only_exported_names_are_proposed(tmp_path: Path) -> None:
    owner(tmp_path, TO_SITE)
    text = WATCHER.replace("task: build", "task: biuld")
    ((_, sentence),) = warnings(watcher(tmp_path, text=text))
    assert "'biuld' to workspace 'site' (did you mean 'build'?)" in sentence
    elsewhere = workspace(tmp_path, text.replace("READ", ""), "else")
    ((_, sentence),) = warnings(elsewhere)
    assert "did you mean" not in sentence


def test_everybody_may_be_named(tmp_path: Path) -> None:
    owner(tmp_path, 'exports: { job_ends: { build: { to: ["*"] } } }')
    assert watcher(tmp_path).problems == []
    build({})
    assert len(jobs(task_name="publish")) == 1


def test_an_export_that_nobody_uses_is_a_warning_at_its_line(tmp_path: Path) -> None:
    ((line, sentence),) = warnings(owner(tmp_path, TO_SITE))
    assert line == len((OWNER + TO_SITE).splitlines())
    assert sentence.endswith("no trigger of a workspace 'site' watches them yet")
    watcher(tmp_path)
    assert owner(tmp_path, TO_SITE).problems == []


@pytest.mark.sample(4)
@pytest.mark.parametrize("hidden", ["input.who", "source_id", "output", "error_message"])
def test_what_was_not_exported_is_not_told(tmp_path: Path, hidden: str) -> None:
    owner(tmp_path, TO_SITE)
    watcher(tmp_path, f"{{{{ job.{hidden} }}}}")
    build({"image": "app:1"})
    ((status, _),) = outcomes("built")
    assert status == "refused" and jobs(task_name="publish") == []
    assert hidden.split(".")[0] in trigger("built").last_error


@pytest.mark.parametrize("hidden", ["input.who", "source_id"])
def test_who_started_the_job_and_with_what_is_never_told(tmp_path: Path, hidden: str) -> None:
    owner(tmp_path, WITH_OUTPUT)
    watcher(tmp_path, f"{{{{ job.{hidden} }}}}")
    build({})
    assert [status for status, _ in outcomes("built")] == ["refused"]


def test_an_exported_output_is_told_without_its_secrets(tmp_path: Path) -> None:
    owner(tmp_path, WITH_OUTPUT)
    watcher(tmp_path, "{{ job.output.work.image }} {{ job.output.work.key }}")
    start(Workspace.objects.get(name="product"), "build", who="ann")
    hand, word = Hand(), "s3cret-value"
    claim = hand.take("work")
    assert hand.start(claim)
    ledger.finish(ledger.Report(claim, output({"image": "app:1", "key": word}), masks=(word,)))
    waiting.go_on_due()
    (started,) = jobs(task_name="publish")
    assert started.input["what"].startswith("app:1 ") and started.input_sealed is None
    assert "s3cret" not in str(started.input)


def test_a_grant_that_is_taken_back_counts_at_once(tmp_path: Path) -> None:
    owner(tmp_path, TO_SITE)
    watcher(tmp_path)
    start(Workspace.objects.get(name="product"), "build", who="ann")
    owner(tmp_path)
    Hand().work({"work": output({})})
    waiting.go_on_due()
    ((status, _),) = outcomes("built")
    assert status == "refused" and jobs(task_name="publish") == []
    assert "exports the ends" in Firing.objects.get().reason


def test_a_grant_counts_for_jobs_that_begin_after_it(tmp_path: Path) -> None:
    owner(tmp_path)
    watcher(tmp_path)
    start(Workspace.objects.get(name="product"), "build", who="ann")
    owner(tmp_path, TO_SITE)
    Hand().work({"work": output({})})
    waiting.go_on_due()
    assert jobs(task_name="publish") == []
    build({})
    assert len(jobs(task_name="publish")) == 1


CIRCLE = """
exports: { job_ends: { publish: { to: [product] } } }
"""
BACK = """
triggers:
  published: { type: job, on_job: { workspace: site, task: publish }, task: build }
"""


def test_two_workspaces_do_not_start_each_other_for_ever(tmp_path: Path) -> None:
    owner(tmp_path, TO_SITE)
    watcher(tmp_path, text=WATCHER + CIRCLE)
    found = owner(tmp_path, TO_SITE + BACK)
    ((_, sentence),) = warnings(found)
    assert "would never come to rest" in sentence
    build({})
    assert [status for status, _ in outcomes("built")] == ["refused"]
    assert "never come to rest" in dict(services.troubles())["site/built"]
    Trigger.objects.filter(name="published").update(is_enabled=False)
    build({})
    assert len(jobs(task_name="publish")) == 1


def test_a_trigger_at_home_hears_nothing_of_a_task_of_the_same_name_elsewhere(
    tmp_path: Path,
) -> None:
    owner(tmp_path, TO_SITE)
    at_home = WATCHER.replace("workspace: product, ", "")
    flow = '{ flow: { work: { type: script, script: "true" } } }'
    watcher(tmp_path, text=at_home.replace("tasks:\n", f"tasks:\n  build: {flow}\n"))
    build({})
    assert jobs(task_name="publish") == []
