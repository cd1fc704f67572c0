"""Steps with actions of other workspaces: only where the owner's files say so, with the owner's
files, and with its secrets only where it gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from apps.accounts.models import Role
from apps.agents.models import Conversation
from apps.approvals import services as approvals
from apps.approvals.models import ApprovalRequest
from apps.approvals.transitions import Caller
from apps.jobs import ledger, services
from apps.jobs.flow import children
from apps.jobs.models import Job, StepEvent
from apps.workspaces import removal
from apps.workspaces.ledger import pass_for
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder
from engine.agents.tools import name_of
from engine.errors import AuthorError
from engine.masking import MASK
from tests.agents.bench import Bench, known_providers
from tests.agents.provider import call, say, service
from tests.apps.api.callers import caller as client
from tests.apps.api.callers import user
from tests.apps.jobs.builders import Hand, fresh, start, statuses, workspace
from tests.apps.jobs.lending import (
    CALLER,
    CALLERS,
    OWNER,
    SECRET,
    caller,
    grant,
    local_worker,
    log_of,
    owner,
    step_of,
)
from tests.apps.triggers.test_pages import person
from workers.pods import Pins

pytestmark = pytest.mark.django_db(transaction=True)


def test_with_the_grant_a_step_runs_the_owners_file(tmp_path: Path) -> None:
    owner(tmp_path, grant("deploy"))
    job = start(caller(tmp_path), what="tea")
    with local_worker(tmp_path) as worker:
        assert worker.carry_out() == 1
    assert fresh(job).status == "completed", step_of(job).error
    log = log_of(job)
    assert "from the file: tea in product" in log
    assert "Action 'deploy' of workspace 'product' at" in log and "without its secrets" in log
    assert fresh(job).workspace.name == "site"


REFUSED = {
    "no workspace": None,
    "no action": "exports: {}\n",
    "no export": "",
    "to another": grant("deploy", to="other"),
}


@pytest.mark.parametrize("exports", REFUSED.values(), ids=REFUSED)
def test_without_the_grant_the_step_fails_and_says_what_the_owner_must_write(
    tmp_path: Path, exports: str | None
) -> None:
    if exports is not None:
        text = OWNER.replace("deploy:", "other-one:") if "{}" in exports else OWNER
        owner(tmp_path, exports, text)
    site = caller(tmp_path)
    (warning,) = site.problems
    job = start(site)
    assert Hand().claim() is None
    step = step_of(job)
    assert (step.status, fresh(job).status) == ("failed", "failed")
    assert step.error == (
        "403: no workspace 'product' exports action 'deploy' to workspace 'site'; its files need"
        " `exports: {actions: {deploy: {to: [site]}}}`"
    )
    assert warning["severity"] == "warning" and warning["line"] == 7
    assert warning["message"] == f"Task 'main' step 'deploy' fails: {step.error}"


def test_a_typing_mistake_is_told_only_among_what_is_exported_to_the_caller(tmp_path: Path) -> None:
    owner(tmp_path, grant("deploy"))
    job = start(caller(tmp_path, "deplyo"))
    assert "(did you mean 'deploy'?)" in step_of(job).error
    owner(tmp_path, grant("deploy", to="other"))
    assert "did you mean" not in step_of(start(Workspace.objects.get(name="site"))).error


def test_a_refused_step_may_be_tolerated_like_any_other_failure(tmp_path: Path) -> None:
    text = CALLER + "      after: { type: script, script: 'true', depends_on: [deploy] }\n"
    text = text.replace("{ action: product", "{ continue_on_failure: true, action: product")
    job = start(caller(tmp_path, text=text))
    assert Hand().work() == 1
    assert statuses(job) == {"deploy": "failed", "after": "completed"}


# Secrets


def test_given_secrets_are_read_and_hidden_from_the_caller(tmp_path: Path) -> None:
    owner(tmp_path, grant("lock", secrets=True))
    text = CALLER + (
        "      after:\n"
        "        type: script\n"
        "        depends_on: [deploy]\n"
        '        script: "test {{ deploy.output.key | length }} = 12; echo {{ deploy.output.key }}"\n'
    )
    job = start(caller(tmp_path, "lock", text))
    with local_worker(tmp_path) as worker:
        assert worker.carry_out() == 2
    assert fresh(job).status == "completed"
    answer = client(Role.ADMIN).get(f"/api/jobs/{job.id}").content.decode()
    assert "action_with_secrets" in answer
    for shown in (log_of(job), answer, str(step_of(job).output), str(fresh(job).output)):
        assert SECRET not in shown
    assert f"key {MASK}" in log_of(job)


def test_what_is_masked_tells_nobody_about_secrets_that_are_not_given(tmp_path: Path) -> None:
    owner(tmp_path, grant("deploy"))
    job = start(caller(tmp_path), what=SECRET)  # a guess
    with local_worker(tmp_path) as worker:
        assert worker.carry_out() == 1
    assert f"from the file: {SECRET} in product" in log_of(job) and MASK not in log_of(job)


def test_secrets_that_are_not_given_make_the_step_fail_and_name_the_cure(tmp_path: Path) -> None:
    product = owner(tmp_path, grant("lock"))
    (warning,) = [one for one in product.problems if one["code"] == "export-secrets"]
    assert "reads secrets, which this export does not give" in warning["message"]
    job = start(caller(tmp_path, "lock"))
    assert step_of(job).error == (
        "403: workspace 'product' exports action 'lock' to workspace 'site' without its secrets,"
        " which the action reads; its files need"
        " `exports: {actions: {lock: {to: [site], secrets: true}}}`"
    )
    assert Hand().claim() is None


def test_the_owners_action_never_reads_the_callers_secrets_or_outputs(tmp_path: Path) -> None:
    owner(tmp_path, grant("peek", "listen", secrets=True))
    text = CALLER + (
        "      first: { type: script, script: 'true' }\n"
        "      listen: { action: product.listen, depends_on: [first] }\n"
    )
    job = start(caller(tmp_path, "peek", text))
    with local_worker(tmp_path) as worker:
        worker.carry_out()
    assert statuses(job) == {"deploy": "failed", "first": "completed", "listen": "failed"}
    assert "secret" in step_of(job).error and CALLERS not in step_of(job).error
    assert "first" in step_of(job, "listen").error


def test_only_what_the_step_gives_reaches_the_owner(tmp_path: Path) -> None:
    """An input that the owner adds later does not get the caller's of the same name."""
    owner(tmp_path, grant("deploy"))
    text = CALLER.replace(', input: { what: "{{ input.what }}" }', "")
    assert text != CALLER
    job = start(caller(tmp_path, text=text), what="hidden-from-the-owner")
    with local_worker(tmp_path) as worker:
        worker.carry_out()
    assert "from the file:  in product" in log_of(job)


CONNECTED = """
connection_types: { db: { host: { type: string }, password: { type: string, secret: true } } }
connections: { main: { type: db, host: OF, password: pw-of-OF } }
"""


@pytest.mark.parametrize(
    ("given", "seen"),
    [("", "product"), (", input: { db: main }", "site")],
    ids=["default", "given"],
)
def test_a_default_names_the_owners_connection_and_an_input_the_callers(
    tmp_path: Path, given: str, seen: str
) -> None:
    action = """
actions:
  ask: { type: script, script: "echo at {{ input.db.host }}", input: { db: { type: db, default: main } } }
"""
    owner(tmp_path, grant("ask", secrets=True), CONNECTED.replace("OF", "product") + action)
    text = "tasks: { main: { flow: { deploy: { action: product.ask" + given + " } } } }"
    job = start(caller(tmp_path, text=CONNECTED.replace("OF", "site") + text))
    with local_worker(tmp_path) as worker:
        worker.carry_out()
    assert fresh(job).status == "completed", step_of(job).error
    assert f"at {seen}" in log_of(job)


# While a job runs


def test_a_job_keeps_the_owners_files_of_its_start(tmp_path: Path) -> None:
    owner(tmp_path, grant("deploy"))
    job = start(caller(tmp_path))
    (tmp_path / "product" / "deploy.sh").write_text("echo new\n")
    owner(tmp_path, grant("deploy"))
    with local_worker(tmp_path) as worker:
        worker.carry_out()
    assert "from the file" in log_of(job)
    again = start(Workspace.objects.get(name="site"))
    with local_worker(tmp_path / "w2") as worker:
        worker.carry_out()
    assert "new" in log_of(again) and "from the file" not in log_of(again)


def test_a_consent_that_is_taken_back_counts_at_once(tmp_path: Path) -> None:
    owner(tmp_path, grant("deploy"))
    job = start(caller(tmp_path))
    owner(tmp_path)
    with local_worker(tmp_path) as worker:
        worker.carry_out()
    assert fresh(job).status == "failed"
    assert step_of(job).error.startswith("403: no workspace 'product' exports action 'deploy'")


def test_secrets_that_are_taken_back_count_at_once(tmp_path: Path) -> None:
    owner(tmp_path, grant("lock", secrets=True))
    job = start(caller(tmp_path, "lock"))
    owner(tmp_path, grant("lock"))
    with local_worker(tmp_path) as worker:
        worker.carry_out()
    assert "without its secrets" in step_of(job).error and SECRET not in log_of(job)


def test_an_owner_that_is_removed_meanwhile_is_one_that_exports_nothing(tmp_path: Path) -> None:
    product = owner(tmp_path, grant("deploy"))
    job = start(caller(tmp_path))
    removal.remove(product)
    with local_worker(tmp_path) as worker:
        worker.carry_out()
    assert step_of(job).error.startswith("403: no workspace 'product' exports action 'deploy'")


# The record


def test_the_record_says_whose_action_it_was(tmp_path: Path) -> None:
    product = owner(tmp_path, grant("lock", secrets=True))
    assert product.current is not None
    job = start(caller(tmp_path, "lock"))
    digest = product.current.digest
    told = StepEvent.objects.get(job_id=job.id, kind="job_uses_foreign").detail
    assert told == (
        f"Step 'deploy' uses action 'lock' of workspace 'product' at {digest[:12]}, with its secrets"
    )
    found = client(Role.VIEWER).get(f"/api/jobs/{job.id}/steps").json()
    (step,) = found["items"] if "items" in found else found["steps"]
    assert (step["action_workspace"], step["action_revision"]) == ("product", digest)
    assert step["action_with_secrets"] is True and step["action_name"] == "product.lock"
    page = person(Role.VIEWER).get(f"/admin/jobs/job/{job.id}/steps/{step_of(job).pk}/")
    assert "of workspace <strong>product</strong>" in page.content.decode()


def test_a_step_of_ones_own_costs_no_further_query(
    tmp_path: Path, django_assert_num_queries: Any
) -> None:
    own = workspace(
        tmp_path, "tasks: { main: { flow: { one: { type: script, script: 'true' } } } }"
    )
    start(own)
    start(own)
    hand = Hand()
    first, second = hand.claim(), hand.claim()
    assert first is not None and second is not None
    ledger.material(first)
    with django_assert_num_queries(0):
        ledger.material(second)


# Kinds of actions


def test_an_action_of_type_task_starts_a_job_of_the_owner(tmp_path: Path) -> None:
    text = OWNER.replace("tasks:", "  start: { type: task, task: build }\ntasks:")
    owner(tmp_path, grant("start", secrets=True), text)
    job = start(caller(tmp_path, "start", CALLER.replace("input.what", "secret.mine")))
    child = Job.objects.get(parent_job_id=job.id)
    assert (child.workspace.name, child.task_name) == ("product", "build")
    assert CALLERS not in str(child.input)
    with local_worker(tmp_path) as worker:
        worker.carry_out()
    children.tell_parent(child.id)
    assert fresh(job).status == "completed"
    assert SECRET not in log_of(child) and CALLERS not in log_of(child)


def test_a_job_with_all_the_owners_secrets_needs_their_export(tmp_path: Path) -> None:
    root = tmp_path / "product"
    root.mkdir()
    text = OWNER.replace("tasks:", "  start: { type: task, task: build }\ntasks:")
    (root / "workflow.yaml").write_text(text + grant("start"))
    with pytest.raises(AssertionError):
        owner(tmp_path, grant("start"), text)
    found = import_folder("product", root, keeps=True)
    (error,) = [one for one in found.problems if one["severity"] == "error"]
    assert "write `secrets: true` to allow that" in error["message"]


@pytest.mark.parametrize("secrets", [True, False])
def test_an_approval_of_the_owner_asks_with_its_own_words(tmp_path: Path, secrets: bool) -> None:
    key = " {{ secret.key }}" if secrets else ""
    text = OWNER.replace(
        "tasks:",
        f'  sign: {{ type: approval, message: "Ship {{{{ input.what }}}}?{key}" }}\ntasks:',
    )
    owner(tmp_path, grant("sign", secrets=secrets), text)
    job = start(caller(tmp_path, "sign"))
    step = step_of(job)
    assert step.status == "suspended", step.error
    assert step.output["approval_message"].startswith("Ship world?") and SECRET not in str(
        step.output
    )


def test_the_form_of_an_approval_has_the_owners_defaults(tmp_path: Path) -> None:
    text = OWNER.replace(
        "tasks:",
        """
  sign:
    type: approval
    message: Ship?
    input: { with: { type: string, default: "{{ secret.key }}" } }
tasks:""",
        1,
    )
    owner(tmp_path, grant("sign", secrets=True), text)
    job = start(caller(tmp_path, "sign"))
    request = ApprovalRequest.objects.get(job_id=job.id)
    approvals.decide(request.pk, Caller(user(Role.ADMIN), "api", ""), approved=True)
    assert fresh(job).status == "completed"
    assert step_of(job).output["input"] == {"with": MASK}


def test_jobs_that_would_start_each_other_through_a_lent_action_do_not(tmp_path: Path) -> None:
    text = OWNER.replace("tasks:", "  start: { type: task, task: build }\ntasks:")
    ends = "  job_ends: { build: { to: [site] } }\n"
    lent = "exports:\n  actions: { start: { to: [site], secrets: true } }\n" + ends
    owner(tmp_path, lent, text)
    back = "triggers: { again: { type: job, on_job: { workspace: product, task: build }, task: main } }"
    site = caller(tmp_path, "start", CALLER + back)
    assert any("leads to the end of task 'build'" in one["message"] for one in site.problems)


def test_an_agent_of_the_owner_has_its_tools_and_its_secrets(tmp_path: Path, settings: Any) -> None:
    known_providers(settings)
    text = OWNER.replace(
        "tasks:",
        """
  ask:
    type: agent
    provider: openai
    prompt: "Do {{ input.what }} with {{ secret.key }}"
    tools: [{ task: build }]
tasks:""",
        1,
    )
    owner(tmp_path, grant("ask", secrets=True), text)
    job = start(caller(tmp_path, "ask"), what="tea")
    with service() as model, local_worker(tmp_path) as worker:
        model.answers(call(name_of({"task": "build"}), {"what": "x"}), say(f"done with {SECRET}"))
        bench = Bench(model.settings())
        assert bench.work() == 1
        child = Job.objects.get(parent_job_id=job.id)
        assert child.workspace.name == "product"
        assert worker.carry_out() == 1
        children.tell_parent(child.id)
        assert bench.work() == 1
    assert fresh(job).status == "completed", step_of(job).error
    assert "Do tea with" in model.seen[0].text
    assert SECRET not in str(step_of(job).output) + log_of(job)
    Conversation.objects.all().delete()


@pytest.mark.parametrize("digest_of", ["product", "site"])
def test_a_pod_fetches_the_owners_files_and_no_others(tmp_path: Path, digest_of: str) -> None:
    text = OWNER.replace("source: deploy.sh", "source: deploy.sh\n    runner: pod")
    product = owner(tmp_path, grant("deploy"), text)
    site = caller(tmp_path)
    start(site)
    claim = Hand("kubernetes").claim()
    assert claim is not None and product.current is not None
    found = ledger.material(claim)
    assert isinstance(found, ledger.Material) and found.home is not None
    home = found.home
    pinned = Pins("https://server", pass_for).pin(claim, home)
    assert pinned.url.startswith("https://server/worker/workspace/product.tar.gz?revision=")
    digest = {"product": home.digest, "site": claim.revision_digest}[digest_of]
    path = f"/worker/workspace/{digest_of}.tar.gz?revision={digest}"
    token = pass_for(claim.attempt_id, claim.fence, digest)

    async def ask() -> int:
        headers = {"authorization": f"Bearer {token}"}
        return int((await AsyncClient().get(path, headers=headers)).status_code)

    assert ledger.started(claim, input=None, masks=())
    assert async_to_sync(ask)() == (200 if digest_of == "product" else 404)


def test_what_it_remembers_belongs_to_the_callers_task(tmp_path: Path) -> None:
    text = OWNER.replace("source: deploy.sh", """script: "echo 'STATE: {}'" """)
    owner(tmp_path, grant("deploy"), text)
    job = start(caller(tmp_path))
    claim = Hand().claim()
    assert claim is not None and claim.workspace == "site"
    found = ledger.material(claim)
    assert isinstance(found, ledger.Material) and found.state is not None
    assert job.workspace.name == "site"


def test_a_hook_cannot_use_the_action_of_another_workspace(tmp_path: Path) -> None:
    owner(tmp_path, grant("deploy"))
    text = CALLER.replace("product.ACTION", "own") + (
        "    on_success: [{ action: product.deploy }]\nactions: { own: { type: script, script: x } }\n"
    )
    site = caller(tmp_path, text=text)
    assert any("hooks with actions of other" in one["message"] for one in site.problems)
    with pytest.raises(AuthorError, match="hooks use only actions of their own"):
        services.start_job("site", "main", {})
