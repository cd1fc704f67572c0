"""`make screenshots`: pictures of every page, light, dark and on a phone, into `screenshots/`
(ignored), and those of the guides into `docs/img/`, in 256 colours, so that each pull stays small.
Names of pages as arguments: only these."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.approvals.models import ApprovalRequest
    from apps.jobs.models import Job
    from tests.browser.stage import Stage

Scene = tuple[str, tuple[str, ...]]  # an address, and what to click on it
ROOT = Path(__file__).resolve().parents[2]
OUT, IMAGES = ROOT / "screenshots", ROOT / "docs" / "img"
LARGEST = 100_000
LOOKS = {"light": (1360, 860, False), "dark": (1360, 860, True), "phone": (390, 844, False)}
FOR_GUIDES = {
    "dashboard": "dashboard.png",
    "job": "job.png",
    "timeline": "timeline.png",
    "task": "start.png",
    "request": "approval.png",
    "approve": "approve.png",
    "actions": "actions.png",
    "decisions": "decisions.png",
    "agent-turn": "agent.png",
    "agent-waits": "agent-waits.png",
    "agent-costs": "agent-costs.png",
    "agent-consent": "agent-consent.png",
    "security": "security.png",
    "sign-in": "sign-in.png",
    "state": "state.png",
    "event-source": "event-source.png",
    "trigger": "trigger.png",
    "webhook": "webhook.png",
    "artifact": "artifact.png",
    "artifacts": "artifacts.png",
    "rights": "rights.png",
    "subscription": "subscription.png",
    "connections": "connections.png",
    "connection": "connection.png",
    "connection-check": "connection-check.png",
    "libraries": "libraries.png",
    "audit": "audit.png",
    "device": "device.png",
    "key-add": "key-add.png",
}


HEIGHTS = {
    ("audit", "light"): 640,
    ("dashboard", "light"): 1000,  # down to the charts
    ("dashboard", "dark"): 1000,
    ("libraries", "light"): 480,
}
PARTS = {
    "agent-consent": "main",
    "agent-costs": ".st-panel:has(.st-costs)",
}  # all that a guide shows of the page
# on a phone the account menu is inside the side bar
ONLY_ON = {"account": ("light", "dark"), "side-bar": ("phone",)}
# everything else as root or anonymously
AS = {
    "half-approved": "olga",
    "security": "otto",
    "recovery-codes": "otto",
    "request-viewer": "vera",
    "forbidden": "vera",
    "job-veiled": "vera",
}
ANONYMOUS = {"sign-in", "forgotten", "forgotten-sent", "sign-on-refused"}
NIGHTLY = """
actions:
  load: { type: script, script: "echo loaded; echo 'OUTPUT: {\\"rows\\": 1204}'" }
  tell: { type: script, script: "echo told" }
  sign: { type: approval, message: "Publish **{{ load.output.rows }}** rows?", min_approvals: 2, timeout: 2h }
  ask: { type: approval, message: "Begin?" }
tasks:
  nightly:
    name: Nightly report
    flow:
      load: { action: load }
      sign: { action: sign, depends_on: [load] }
    on_suspended: [{ action: tell }]
  wide:
    name: More steps than a picture can show
    flow:
      ask: { action: ask }
{steps}
"""
PLAIN: dict[str, Scene] = {
    "sign-in": ("/admin/login/?next=/admin/", ()),
    "dashboard": ("/admin/", ()),
    "tasks": ("/admin/tasks/", ()),
    "jobs-none": ("/admin/jobs/job/?q=nothing-like-this", ()),
    "jobs-filters": ("/admin/jobs/job/", ('#changelist :text("Filters")',)),
    "side-bar": ("/admin/jobs/job/", ('[aria-label="Open the side bar"]',)),
    "jobs": ("/admin/jobs/job/", ()),
    "accounts": ("/admin/accounts/", ()),
    "not-found": ("/admin/jobs/job/00000000-0000-7000-8000-000000000000/change/", ()),
    "forbidden": ("/admin/accounts/user/", ()),
    "password": ("/admin/password_change/", ()),
    "account": ("/admin/jobs/job/", ('button:has-text("Account and colours")',)),
    "empty-dashboard": ("/admin/", ()),
    "empty-tasks": ("/admin/tasks/", ()),
    "empty-jobs": ("/admin/jobs/job/", ()),
    "empty-approvals": ("/admin/approvals/approvalrequest/", ()),
}
BROKEN = """
actions:
  fetch: { type: scrip, script: "curl example.com" }
tasks:
  fetch: { flow: { first: { action: fetch }, second: { action: fetch, depends_on: [frist] } } }
"""


@dataclass(frozen=True)
class Seen:
    """The objects of the pictures: jobs by outcome, and approval requests."""

    broken: Job
    done: Job
    waiting: Job
    long: Job
    wide: Job
    watched: Job
    request: ApprovalRequest
    decided: ApprovalRequest
    signed: ApprovalRequest


@contextmanager
def database() -> Iterator[None]:
    """A private, migrated database and broker for this process and its children."""
    import tests.servers  # noqa: F401  (sets the environment before Django reads it)

    os.environ["DJANGO_SETTINGS_MODULE"] = "stroem_project.settings"
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0)
    try:
        yield
    finally:
        connections.close_all()


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, database():
        from tests.browser.stage import Stage

        stage = Stage(Path(folder))
        try:
            stage.open()
            made = photograph(stage, sys.argv[1:])
        finally:
            stage.close()
    too_large = [path for path in made if path.parent == IMAGES and path.stat().st_size > LARGEST]
    for path in too_large:
        print(
            f"{path} has {path.stat().st_size} bytes; a picture of a guide may have {LARGEST}",
            file=sys.stderr,
        )
    print(f"{len(made)} pictures in {OUT} and {IMAGES}")
    return 1 if too_large else 0


def photograph(stage: object, only: list[str]) -> list[Path]:
    import shutil

    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import FLAGS
    from tests.browser.stage import Stage

    assert isinstance(stage, Stage)
    scenes = {
        name: scene
        for name, scene in addresses(stage, prepared(stage)).items()
        if not only or name in only
    }
    OUT.mkdir(exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    made = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), headless=True, args=FLAGS
        )
        for look, (width, height, is_dark) in LOOKS.items():
            context = chromium.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if is_dark else "light",
                reduced_motion="reduce",
                base_url=stage.url,
            )
            context.set_default_timeout(120_000)
            page = context.new_page()
            for name, (address, click) in scenes.items():
                if look not in ONLY_ON.get(name, LOOKS):
                    continue
                context.clear_cookies()
                if name not in ANONYMOUS:
                    who = "nobody" if name.startswith("empty-") else AS.get(name, "root")
                    context.add_cookies([stage.cookie(getattr(stage, who))])
                page.set_viewport_size(
                    {"width": width, "height": HEIGHTS.get((name, look), height)}
                )
                page.goto(address)
                for selector in click:
                    page.locator(selector).first.click()
                page.wait_for_timeout(900)
                path = OUT / f"{name}-{look}.png"
                page.screenshot(path=path, full_page=look == "phone" and not click)
                made.append(path)
                if look == "light" and name in FOR_GUIDES:
                    made.append(IMAGES / FOR_GUIDES[name])
                    shown = page.locator(PARTS[name]) if name in PARTS else page
                    shown.screenshot(path=made[-1])
                    _lighten(made[-1])
            context.close()
        chromium.close()
    return made


def _lighten(path: Path) -> None:
    """Keep 256 colours: a third of the size, and nobody sees the difference."""
    from PIL import Image

    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def prepared(stage: Stage) -> Seen:
    """Create an example of everything."""
    from apps.approvals import delegations
    from apps.approvals import services as approvals
    from apps.approvals.errors import NotAllowed
    from apps.approvals.models import ApprovalRequest
    from apps.approvals.services import Caller
    from apps.workspaces.secrets import store_secret
    from engine.errors import Conflict

    store_secret(stage.site, "deploy_key", "a-secret-value", by="root@example.org")
    broken = stage.start("mend", marker=str(stage.folder / "marker"))
    stage.until_job(broken, "failed")
    done = stage.start("release", version="2.3.9", env="staging")
    stage.until_step(done, "gate", "suspended")
    waiting = stage.start("release", version="2.4.0", env="production", regions=["eu", "us"])
    stage.until_step(waiting, "gate", "suspended")
    long = stage.start("long")
    stage.until_step(long, "wait", "running")
    request = ApprovalRequest.objects.get(job_id=waiting.pk)
    decided = ApprovalRequest.objects.get(job_id=done.pk)
    mine, theirs = Caller(stage.olga, "admin", "192.0.2.7"), Caller(stage.otto, "api", "192.0.2.9")
    with suppress(NotAllowed):
        approvals.decide(decided.pk, Caller(stage.vera, "admin", "192.0.2.8"), approved=True)
    delegations.delegate(decided.pk, mine, stage.vera.email)
    approvals.decide(decided.pk, theirs, approved=False, reason="Not before the week-end is over")
    with suppress(Conflict):
        approvals.decide(
            decided.pk,
            Caller(stage.vera, "link", "192.0.2.8"),
            approved=True,
            given={"note": "fine"},
        )
    stage.until_job(done, "failed")
    signed, wide = _signed_once(stage)
    _broken_workspace(stage)
    return Seen(broken, done, waiting, long, wide, _watched(stage), request, decided, signed)


def addresses(stage: Stage, seen: Seen) -> dict[str, Scene]:
    """Every page by name: its address, and what to click on it."""
    from tests.browser import agent_scene, consent_scene, signin_scene

    return {
        **PLAIN,
        **_of_artifacts(stage),
        **_of_states(stage),
        **_of_triggers(stage),
        **_of_libraries(stage),
        **_of_subscriptions(stage),
        **_of_connections(stage),
        **_of_rights(stage),
        **agent_scene.addresses(stage),
        **consent_scene.addresses(stage),
        **signin_scene.addresses(stage),
        **_of_work(seen),
        **_of_decisions(seen),
        **_of_settings(stage),
    }


def _of_states(stage: Stage) -> dict[str, Scene]:
    from tests.browser import state_scene

    state_scene.prepare(stage)
    return {
        "state": (state_scene.PAGE, ()),
        "state-old": (f"{state_scene.PAGE}?version=2", ()),
        "state-of-workspace": (state_scene.GLOBAL, ()),
        "task-with-state": (state_scene.TASK, ()),
    }


def _of_libraries(stage: Stage) -> dict[str, Scene]:
    from tests.browser import library_scene

    page = library_scene.prepare(stage)
    return {"libraries": (library_scene.PAGE, ()), "workspace-with-libraries": (page, ())}


def _of_artifacts(stage: Stage) -> dict[str, Scene]:
    from tests.browser import artifact_scene
    from tests.browser.artifact_scene import page_of

    job = artifact_scene.prepare(stage)
    return {
        "artifacts": (f"/admin/jobs/job/{job.pk}/change/", ("#tab-details",)),
        "artifact": (page_of(job, "times.csv"), ()),
        "artifact-markdown": (page_of(job, "notes.md"), ()),
        "artifact-page": (page_of(job, "coverage.html"), ()),
        "artifact-svg": (page_of(job, "plots/trend.svg"), ()),
        "artifact-binary": (page_of(job, "packages/app-2.4.0.bin"), ()),
    }


def _of_triggers(stage: Stage) -> dict[str, Scene]:
    from tests.browser import source_scene, trigger_scene

    page = "/admin/triggers/trigger/{}/change/"
    names = source_scene.prepare(stage)
    return {
        "triggers": ("/admin/triggers/trigger/", ()),
        "trigger": (page.format(trigger_scene.prepare(stage).pk), ()),
        "event-source": (page.format(names["orders"]), ()),
        "event-source-waits": (page.format(names["returns"]), ()),
        "webhook": (page.format(names["on-push"]), ()),
    }


def _of_subscriptions(stage: Stage) -> dict[str, Scene]:
    from tests.browser import subscription_scene

    page = f"/admin/subscriptions/subscription/{subscription_scene.prepare(stage).pk}/change/"
    return {
        "subscription": (page, ()),
        "subscription-new": ("/admin/subscriptions/subscription/add/", ()),
    }


def _of_connections(stage: Stage) -> dict[str, Scene]:
    from tests.browser import connection_scene

    name = connection_scene.prepare(stage).name
    page = f"/admin/connections/{name}/of"
    return {
        "connections": ("/admin/connections/", ()),
        "connection": (f"{page}/warehouse/", ()),
        "connection-check": (f"{page}/reports/", ()),
        "connection-new": (f"/admin/connections/{name}/add/postgres/", ()),
    }


def _of_rights(stage: Stage) -> dict[str, Scene]:
    from tests.browser import rights_scene

    job = f"/admin/jobs/job/{rights_scene.prepare(stage).pk}/change/"
    return {
        "rights": (rights_scene.PAGE, ()),
        "rights-of-task": (rights_scene.TASK, ()),
        "job-veiled": (job, ("#tab-details",)),
    }


def _of_work(seen: Seen) -> dict[str, Scene]:
    job = f"/admin/jobs/job/{seen.waiting.pk}/change/"
    watched = f"/admin/jobs/job/{seen.watched.pk}/change/"
    return {
        "task-refused": ("/admin/tasks/site/release/", (".st-form .st-primary",)),
        "task": ("/admin/tasks/site/release/", ()),
        "rerun": (f"/admin/tasks/site/release/?from={seen.waiting.pk}", ()),
        "job": (job, ()),
        "job-hooks": (f"/admin/jobs/job/{seen.signed.job_id}/change/", ("#tab-details",)),
        "job-listed": (f"/admin/jobs/job/{seen.wide.pk}/change/", ()),
        "job-step": (job, ('.st-node[data-label="fetch"]', "#tab-step")),
        "steps": (job, ("#tab-steps",)),
        "timeline": (job, ("#tab-timeline",)),
        "details": (job, ("#tab-details",)),
        "actions": (watched, ('.st-node[data-label="tidy"]',)),
        "actions-table": (watched, ("#tab-actions", '#action-table [data-name="nodes"] button')),
        "actions-timeline": (watched, ("#tab-timeline",)),
        "failed": (
            f"/admin/jobs/job/{seen.broken.pk}/change/",
            ('.st-node[data-label="flaky"]', "#tab-step"),
        ),
        "restart": (
            f"/admin/jobs/job/{seen.broken.pk}/change/",
            ('[data-opens="restart-dialog"]',),
        ),
        "running": (f"/admin/jobs/job/{seen.long.pk}/change/", ()),
        "cancel": (f"/admin/jobs/job/{seen.long.pk}/change/", ('[data-opens="cancel-dialog"]',)),
    }


def _of_decisions(seen: Seen) -> dict[str, Scene]:
    return {
        "approvals": ("/admin/approvals/approvalrequest/", ()),
        "request": (f"/admin/approvals/approvalrequest/{seen.request.pk}/change/", ()),
        "approve": (
            f"/admin/approvals/approvalrequest/{seen.request.pk}/change/",
            ('[data-opens="approve-dialog"]',),
        ),
        "reject": (
            f"/admin/approvals/approvalrequest/{seen.request.pk}/change/",
            ('[data-opens="reject-dialog"]',),
        ),
        "delegate": (
            f"/admin/approvals/approvalrequest/{seen.request.pk}/change/",
            ('[data-opens="delegate-dialog"]',),
        ),
        "half-approved": (f"/admin/approvals/approvalrequest/{seen.signed.pk}/change/", ()),
        "request-viewer": (f"/admin/approvals/approvalrequest/{seen.request.pk}/change/", ()),
        "decided": (f"/admin/approvals/approvalrequest/{seen.decided.pk}/change/", ()),
        "decisions": ("/admin/approvals/record/", ()),
        "job-decided": (
            f"/admin/jobs/job/{seen.done.pk}/change/",
            ('.st-node[data-label="gate"]', "#tab-step"),
        ),
    }


def _of_settings(stage: Stage) -> dict[str, Scene]:
    from apps.fleet.models import Worker
    from tests.browser import audit_scene

    worker = Worker.objects.get(name="stage")
    key = audit_scene.prepare(stage)
    return {
        "audit": ("/admin/audit/entry/", ()),
        "device": (f"/admin/device/?code={audit_scene.code()}", ()),
        "device-code": ("/admin/device/", ()),
        "own-keys": ("/admin/keys/", ()),
        "own-key": ("/admin/keys/new/", ()),
        "key": (f"/admin/accounts/apitoken/{key.pk}/change/", ()),
        "service-accounts": ("/admin/accounts/serviceaccount/", ()),
        "service-account": (f"/admin/accounts/serviceaccount/{key.user_id}/change/", ()),
        "service-account-add": ("/admin/accounts/serviceaccount/add/", ()),
        "workspaces": ("/admin/workspaces/workspace/", ()),
        "workspace": (f"/admin/workspaces/workspace/{stage.site.pk}/change/", ()),
        "workspace-broken": (f"/admin/workspaces/workspace/{_id_of('half-typed')}/change/", ()),
        "workers": ("/admin/fleet/worker/", ()),
        "worker": (f"/admin/fleet/worker/{worker.pk}/change/", ()),
        "workspace-remove": (f"/admin/workspaces/{stage.site.name}/remove/", ()),
        "key-add": ("/admin/accounts/apitoken/add/", ()),
        "secrets": ("/admin/workspaces/secret/", ()),
        "secret": ("/admin/workspaces/secret/add/", ()),
        "users": ("/admin/accounts/user/", ()),
        "user-add": ("/admin/accounts/user/add/", ()),
        "groups": ("/admin/auth/group/", ()),
        "group": ("/admin/auth/group/add/", ()),
        "grant": ("/admin/accounts/workspacegrant/add/", ()),
        "user-delete": (f"/admin/accounts/user/{stage.nobody.pk}/delete/", ()),
        "user-password": (f"/admin/accounts/user/{stage.vera.pk}/password/", ()),
        "grants": ("/admin/accounts/workspacegrant/", ()),
        "keys": ("/admin/accounts/apitoken/", ()),
        "user": (f"/admin/accounts/user/{stage.vera.pk}/change/", ()),
    }


def _signed_once(stage: Stage) -> tuple[ApprovalRequest, Job]:
    """A request with one of two approvals, in a job with hooks; and a job too large to draw."""
    from apps.approvals import services as approvals
    from apps.approvals.models import ApprovalRequest
    from apps.approvals.services import Caller

    names = [f"part-{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(310)]
    steps = "\n".join(f"      {name}: {{ action: tell, depends_on: [ask] }}" for name in names)
    stage.workspace("nightly", NIGHTLY.replace("{steps}", steps))
    job = stage.start("nightly", None, "nightly")
    stage.until_step(job, "sign", "suspended")
    request = ApprovalRequest.objects.get(job_id=job.pk)
    approvals.decide(request.pk, Caller(stage.olga, "admin", "192.0.2.7"), approved=True)
    wide = stage.start("wide", None, "nightly")
    stage.until_step(wide, "ask", "suspended")
    return request, wide


def _broken_workspace(stage: Stage) -> None:
    from apps.workspaces.services import import_folder

    root = stage.folder / "workspaces" / "half-typed"
    root.mkdir(parents=True)
    (root / "flow.yaml").write_text(BROKEN)
    import_folder("half-typed", root, keeps=True)


def _id_of(workspace: str) -> int:
    from apps.workspaces.models import Workspace

    return Workspace.objects.get(name=workspace).pk


def _watched(stage: Stage) -> Job:
    """A job with workflow actions: one failed, one requested nodes."""
    from tests.apps.jobs.builders import until
    from tests.apps.workflow_actions.hands import actions
    from tests.browser.action_scene import begin

    scene = begin(stage)
    scene.let_south_end()
    scene.let_tidy_end()
    scene.ask_for_nodes()
    until(lambda: actions(scene.job)["tidy"] == "failed", within_s=60)
    return scene.job


if __name__ == "__main__":
    sys.exit(main())
