"""Untrusted text on every page: none of it runs, even without a content security policy."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from apps.accounts.models import ApiToken, Role, User, WorkspaceGrant
from apps.approvals.models import ApprovalRequest, Delegation, Record, Vote
from apps.fleet.models import Worker
from apps.jobs.models import Job, Step, StepEvent
from apps.workspaces.models import Revision, Secret, Workspace
from tests.apps.jobs.builders import until
from tests.browser.conftest import PHONE
from tests.browser.stage import Stage
from tests.browser.vectors import vectors

VECTORS = vectors()
ALL = "\n\n".join(VECTORS)
LINKS = "() => [...document.querySelectorAll('a[href]')].map((a) => a.pathname + a.search)"
INJECTED = """() => [...document.querySelectorAll('*')].filter((node) =>
  [...node.attributes].some((one) => /^on/.test(one.name) || /^\\s*(javascript|vbscript|data:text)/i.test(one.value)
    && one.name !== 'value' && !one.name.startsWith('data-') && one.name !== 'title' && one.name !== 'aria-label'
    || /xss/.test(one.value) && /^(x-|hx-|src$|srcdoc)/.test(one.name))
  || ['IFRAME', 'OBJECT', 'EMBED', 'BASE', 'MARQUEE', 'MATH'].includes(node.tagName)
  || node.tagName === 'SCRIPT' && !node.src && node.type !== 'application/json'
).map((node) => node.outerHTML.slice(0, 200))"""


def named(text: str) -> str:
    """A vector as a valid name: no slash, bracket or control characters, not too long."""
    return (
        "".join(letter for letter in text if letter.isprintable() and letter not in "/[]").strip()[
            :190
        ]
        or "x"
    )


def raw(text: str) -> str:
    """A template that renders to exactly this."""
    return "{% raw %}" + text.replace("\x01", "") + "{% endraw %}"


def hostile_flow() -> str:
    names = list(dict.fromkeys(named(one) for one in VECTORS))[:120]
    fields = {
        named(one): {"type": "string", "name": one[:200], "description": one, "default": raw(one)}
        for one in VECTORS[:60]
    }
    gate = {"type": "approval", "name": VECTORS[0], "message": raw(ALL)}
    gate["input"] = {
        named(one): {"type": "string", "name": one[:100], "options": [one, "b"], "description": one}
        for one in VECTORS[:30]
    }
    flow = {"gate": {"action": "gate", "name": VECTORS[1]}}
    flow |= {name: {"action": "echo", "name": name, "depends_on": ["gate"]} for name in names}
    task = {"name": VECTORS[0], "description": ALL, "folder": named(VECTORS[3]), "flow": flow}
    asks = {
        "name": VECTORS[2],
        "description": VECTORS[4],
        "input": fields,
        "flow": {"a": {"action": "echo"}},
    }
    actions = {"gate": gate, "echo": {"type": "script", "script": "echo ok", "name": VECTORS[5]}}
    return json.dumps({"actions": actions, "tasks": {named(VECTORS[0]): task, "asks": asks}})


@pytest.fixture(scope="module")
def hostile(stage: Stage) -> Job:
    """A job with the vectors in all its texts and those around it."""
    stage.workspace("hostile", hostile_flow())
    job = stage.start(named(VECTORS[0]), stage.root, "hostile")
    found = until(lambda: ApprovalRequest.objects.filter(job_id=job.pk).first(), within_s=60)
    nested = {one: {"deep": [one]} for one in VECTORS}
    Job.objects.filter(pk=job.pk).update(
        source_id=ALL[:500],
        input=nested,
        output=nested,
        error=ALL,
        cancel_reason=ALL,
        task_name=VECTORS[0],
    )
    Step.objects.filter(job_id=job.pk).update(error=ALL, input=nested, output={"text": ALL})
    first = Step.objects.filter(job_id=job.pk).exclude(name="gate").order_by("position").first()
    assert first is not None
    StepEvent.objects.create(
        job_id=job.pk, step_id=first.pk, kind="x", detail=ALL, actor=VECTORS[0][:254]
    )
    StepEvent.objects.create(
        job_id=job.pk, kind=VECTORS[0][:20], detail=ALL, actor=VECTORS[1][:254]
    )
    Workspace.objects.filter(name="hostile").update(
        location=VECTORS[6],
        problems=[
            {
                "severity": "warning",
                "file": one,
                "line": 1,
                "column": 2,
                "message": one,
                "text": one,
            }
            for one in VECTORS
        ],
    )
    ApprovalRequest.objects.filter(pk=found.pk).update(
        message=ALL,
        task_name=VECTORS[0],
        step_name="gate",
        users=[one.lower() for one in VECTORS[:40]],
        groups=VECTORS[:40],
    )
    for one in VECTORS[:50]:
        Record.objects.create(
            request_id=found.pk, job_id=job.pk, workspace="hostile", task_name=one[:300], step_name=one[:300],
            actor=one[:254], what="approve", outcome="refused", detail=one, via="api", address=one[:100],
        )  # fmt: skip
    Worker.objects.filter(name="stage").update(hostname=VECTORS[7][:255], version=VECTORS[8][:50])
    ghost = Worker.objects.get(name="stage")
    ghost.pk, ghost.name, ghost.tags = None, VECTORS[0], [one[:100] for one in VECTORS[:80]]
    ghost.offers = nested
    ghost.save(force_insert=True)
    people_and_settings(stage, found)
    lines = "".join(
        json.dumps({"ts": "2026-01-01T00:00:00.000Z", "stream": "stdout", "step": one, "line": one})
        + "\n"
        for one in VECTORS
    ).replace("\\u0000", "")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, step_id, lines, line_count)"
            " VALUES (current_date, 999999, 1, %s, %s, %s, 300)",
            [job.pk, first.pk, lines],
        )
    return job


def people_and_settings(stage: Stage, request: ApprovalRequest) -> None:
    """Names of users, groups, keys, grants and secrets; a decided request with long texts."""
    person = stage.person("hostile@example.org", Role.VIEWER)
    User.objects.filter(pk=person.pk).update(
        first_name=VECTORS[0][:150], last_name=VECTORS[9][:150]
    )
    for number, one in enumerate(VECTORS[:40]):
        group = Group.objects.create(name=f"{one[:140]} {number}")
        WorkspaceGrant.objects.create(group=group, pattern=one[:200], role=Role.VIEWER)
        ApiToken.objects.create(
            user=person, name=one[:200], prefix=f"strm_{number:07}", digest=f"{number:064}"
        )
        Secret.objects.create(
            workspace=request.workspace,
            name=f"{one[:80]} {number}",
            sealed=b"",
            updated_by=one[:100],
        )
    Revision.objects.filter(workspace=request.workspace).update(label=VECTORS[11][:64])
    Workspace.objects.filter(pk=request.workspace_id).update(ref=VECTORS[12][:255])
    Delegation.objects.create(request=request, giver=stage.olga, taker=person)
    decided = ApprovalRequest.objects.get(pk=request.pk)
    decided.pk, decided.step_id = None, request.step_id + 10**9
    decided.status, decided.closed_at, decided.closed_by, decided.reason = (
        "rejected",
        timezone.now(),
        VECTORS[0][:254],
        ALL,
    )
    decided.message = ALL
    decided.save()
    Vote.objects.create(
        request=decided,
        user=person,
        approved=False,
        reason=ALL,
        input={one: one for one in VECTORS},
    )


@pytest.mark.chromium
def test_the_vectors_do_run_where_nothing_stops_them(stage: Stage, browser: Browser) -> None:
    context = browser.new_context(base_url=stage.url, bypass_csp=True)
    context.add_init_script("window.hits = []; window.xss = () => window.hits.push(location.href)")
    page = context.new_page()
    page.goto("/admin/login/")
    page.evaluate(
        "(html) => { document.body.innerHTML = html }",
        "".join(f"<div>{one}</div>" for one in VECTORS[:60]),
    )
    page.wait_for_timeout(500)
    assert page.evaluate("window.hits.length") > 0
    assert page.evaluate(INJECTED)
    context.close()


@pytest.mark.chromium
@pytest.mark.parametrize("is_phone", [False, True], ids=["desk", "phone"])
def test_no_vector_runs_on_any_page(
    stage: Stage, browser: Browser, hostile: Job, is_phone: bool
) -> None:
    context = browser.new_context(
        base_url=stage.url, bypass_csp=True, **({"viewport": PHONE} if is_phone else {})
    )
    context.add_cookies([stage.cookie(stage.root)])
    context.add_init_script("window.hits = []; window.xss = () => window.hits.push(location.href)")
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)[:300]))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(stage.url) else complaints.append(request.url)
        ),
    )
    request = ApprovalRequest.objects.get(job_id=hostile.pk, status="open")
    worker = Worker.objects.get(name=VECTORS[0])
    workspace = Workspace.objects.get(name="hostile")
    for address in (
        "/admin/",
        "/admin/tasks/",
        f"/admin/tasks/?q={'%22%3E%3Cimg%20src=x%20onerror=xss()%3E'}",
        "/admin/tasks/hostile/asks/",
        f"/admin/jobs/job/?q={'%22%3E%3Cimg%20src=x%20onerror=xss()%3E'}&status=%3Cscript%3Exss()%3C/script%3E",
        "/admin/jobs/job/",
        "/admin/approvals/approvalrequest/?box=all",
        f"/admin/approvals/approvalrequest/{request.pk}/change/",
        "/admin/approvals/record/",
        f"/admin/approvals/record/?q={'%22%3E%3Cimg%20src=x%20onerror=xss()%3E'}",
        "/admin/workspaces/workspace/",
        f"/admin/workspaces/workspace/{workspace.pk}/change/",
        "/admin/fleet/worker/",
        f"/admin/fleet/worker/{worker.pk}/change/",
        "/admin/jobs/job/not-a-job/change/",
    ):
        page.goto(address)
        inspect(page, complaints)
    page.goto(stage.job_url(hostile))
    expect(page.locator(".st-node").first).to_be_visible()
    expect(page.locator("#log-state")).to_contain_text("lines")
    inspect(page, complaints)
    page.locator("#log-search").fill("<img")
    inspect(page, complaints)
    page.locator("#log").evaluate("(box) => { box.scrollTop = 100000 }")
    for tab in ("Steps", "Timeline", "Details"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(150)
        inspect(page, complaints)
    page.get_by_role("tab", name="Steps").click()
    page.locator("#step-table tbody button").nth(1).click()
    page.get_by_role("tab", name="Step", exact=True).click()
    expect(page.locator("#part-step")).to_contain_text("Events")
    inspect(page, complaints)
    assert not complaints, complaints
    context.close()


# The forms of a page, and their text fields, without those that end the session or delete a row.
FORMS = """[...document.querySelectorAll('form')].filter((form) =>
    !/logout|delete|refresh|i18n/.test(form.getAttribute('action') || '') && form.querySelector(FIELDS))"""
FIELDS = ", ".join(
    (
        "textarea",
        "input:not([type])",
        *(f"input[type={kind}]" for kind in ("text", "search", "email")),
    )
)
FORMS = FORMS.replace("FIELDS", f"'{FIELDS}'")
FILL = f"""([number, text]) => {{
  const form = {FORMS}[number];
  form.querySelectorAll('{FIELDS}').forEach((field) => {{ field.value = text; }});
  HTMLFormElement.prototype.submit.call(form);
}}"""


@pytest.mark.slow
@pytest.mark.chromium
@pytest.mark.timeout(1200)
def test_no_vector_runs_wherever_links_lead_nor_in_any_form(
    stage: Stage, browser: Browser, hostile: Job
) -> None:
    context = browser.new_context(base_url=stage.url, bypass_csp=True)
    context.add_cookies([stage.cookie(stage.root)])
    context.add_init_script("window.hits = []; window.xss = () => window.hits.push(location.href)")
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)[:300]))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(stage.url) else complaints.append(request.url)
        ),
    )
    seen, waiting = {"/admin/"}, ["/admin/"]
    kinds: Counter[str] = Counter()
    forms = 0
    while waiting:
        address = waiting.pop(0)
        answer = page.goto(address)
        assert answer is not None and answer.status < 500, address
        inspect(page, complaints)
        for link in page.evaluate(LINKS):
            path = link.partition("#")[0]
            kind = re.sub(r"[0-9a-f-]{36}|[0-9]+|[?&].*", "#", path)
            if (
                path in seen
                or not path.startswith("/admin/")
                or re.search("logout|/log/|jsi18n|/export/", path)  # a download is no page
                or kinds[kind] >= 4
            ):
                continue
            kinds[kind] += 1
            seen.add(path)
            waiting.append(path)
        forms += submitted(page, address, complaints)
    print(f"{len(seen)} pages, {forms} forms")
    assert len(seen) > 60 and forms > 40
    context.close()


def submitted(page: Page, address: str, complaints: list[str]) -> int:
    """Submits each form of the page with every vector in each of its fields. Returns how many."""
    if "/password/" in address:  # it accepts any text and ends the session
        return 0
    count = int(page.evaluate(f"{FORMS}.length"))
    for number in range(count):
        page.goto(address)
        with page.expect_navigation():
            page.evaluate(FILL, [number, ALL.replace("\x00", "")])
        inspect(page, complaints)
    return count


def inspect(page: Page, complaints: list[str]) -> None:
    assert page.evaluate("window.hits") == [], page.url
    found = page.evaluate(INJECTED)
    assert not found, (page.url, found)
    assert not complaints, (page.url, complaints)
