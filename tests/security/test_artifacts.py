"""What steps leave is hostile: nothing of it runs in our origin, nothing is written outside."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import Role, User, WorkspaceGrant
from apps.artifacts.files import serving
from apps.artifacts.models import Artifact
from apps.jobs.models import Job
from engine import artifacts as rules
from tests.apps.artifacts.builders import shelve
from tests.apps.jobs.builders import start, workspace

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous"),
]
FLOW = "tasks: {main: {flow: {build: {type: script, script: 'true'}}}}"
EVIL = b"<script>fetch('/api/auth/api-keys')</script><img src=x onerror=alert(1)>"
HOSTILE = {
    "page.html": b"<!doctype html>" + EVIL,
    "upper.HTM": b"<HTML>" + EVIL,
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>1</script></svg>",
    "sly.txt": b"<!DOCTYPE HTML>" + EVIL,
    "polyglot.png": b"GIF89a/*" + EVIL + b"*/=1",
    "paper.pdf": b"%PDF-1.4\n1 0 obj << /OpenAction << /S /JavaScript /JS (app.alert(1)) >> >>",
    "formula.csv": b'=cmd|"/C calc"!A0,"<script>alert(1)</script>"\n@SUM(1),"<b>x</b>"\n',
    "notes.md": b"# Hi\n" + EVIL + b"\n[x](javascript:alert(1)) ![p](http://evil/p.png)\n",
    "data.json": b'{"a": "</pre><script>alert(1)</script>"}',
    "data.xml": b"<?xml version='1.0'?><x:script xmlns:x='http://www.w3.org/1999/xhtml'>1</x:script>",
    "<img src=x onerror=alert(1)>.txt": b"text",
    '"; filename="a.html': b"text",
}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    found = start(workspace(tmp_path, FLOW, "own"))
    shelve(found, "build", HOSTILE)
    return found


@pytest.fixture
def client() -> Client:
    user = User.objects.create_user("viewer@example.org", "long enough to sign in", is_staff=True)
    WorkspaceGrant.objects.create(user=user, pattern="*", role=Role.VIEWER)
    found = Client()
    found.force_login(user)
    return found


@pytest.mark.parametrize("preview", [False, True])
def test_every_answer_keeps_the_browser_from_running_it(
    job: Job, client: Client, preview: bool
) -> None:
    for row in Artifact.objects.all():
        url = rules.address(str(job.pk), row.name)
        answer = client.get(url + ("?preview=true" if preview else ""))
        assert answer.status_code == 200, url
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Cache-Control"] == "private, max-age=0, must-revalidate"
        policy, disposition = answer["Content-Security-Policy"], answer["Content-Disposition"]
        assert "default-src 'none'" in policy and "script-src" not in policy
        if row.content_type == rules.PDF:
            assert answer["Content-Type"] == rules.PDF and row.name == "paper.pdf"
        else:
            assert policy.split("; ")[0] == "sandbox" and "allow" not in policy
        active = answer["Content-Type"].partition(";")[0] not in rules.HARMLESS
        assert disposition.startswith("attachment") or not active or preview
        assert "\n" not in disposition and "\r" not in disposition


def test_a_type_is_what_the_bytes_say_and_never_a_script() -> None:
    found = {name: rules.type_of(name, data) for name, data in HOSTILE.items()}
    assert found["sly.txt"] == found["page.html"] == found["upper.HTM"] == "text/html"
    assert found["polyglot.png"] == "image/gif"
    assert rules.type_of("a.js", b"alert(1)") == "text/plain"
    assert rules.type_of("a.png", b"no picture") == "text/plain"
    assert rules.type_of("a.html", b"\0binary") == "application/octet-stream"
    assert not {one for one in found.values() if "script" in one}


def test_the_pages_show_them_as_text_or_in_a_sandbox(job: Job, client: Client) -> None:
    rows = {row.name: row for row in Artifact.objects.all()}
    pages = {
        name: client.get(f"/admin/jobs/job/{job.pk}/artifacts/{row.pk}/").content.decode()
        for name, row in rows.items()
    }
    pages["job"] = client.get(f"/admin/jobs/job/{job.pk}/change/").content.decode()
    for name, page in pages.items():
        assert "<script>alert" not in page and "<script>fetch" not in page, name
        assert "onerror=alert(1)>" not in page.replace("&gt;", "»"), name
        assert 'href="javascript:' not in page and 'http://evil/p.png"' not in page, name
    for name in ("page.html", "drawing.svg", "sly.txt"):
        assert "<iframe" in pages[name] and " sandbox src=" in pages[name]
    assert "sandbox" not in pages["paper.pdf"].partition("<iframe")[2].partition(">")[0]
    assert "<td>&lt;b&gt;x&lt;/b&gt;</td>" in pages["formula.csv"]
    assert "=cmd|" in pages["formula.csv"]


def test_a_page_lets_only_our_own_address_into_its_frame(job: Job, client: Client) -> None:
    row = Artifact.objects.get(name="page.html")
    answer = client.get(f"/admin/jobs/job/{job.pk}/artifacts/{row.pk}/")
    policy = answer["Content-Security-Policy"]
    assert "frame-src 'self'" in policy and "script-src 'self'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_a_stranger_finds_neither_page_nor_file(job: Job) -> None:
    stranger = User.objects.create_user("stranger@example.org", "long enough", is_staff=True)
    client = Client()
    client.force_login(stranger)
    row = Artifact.objects.get(name="page.html")
    for url in (
        f"/admin/jobs/job/{job.pk}/artifacts/{row.pk}/",
        f"/api/jobs/{job.pk}/artifacts/page.html",
        f"/api/jobs/{job.pk}/artifacts.zip",
    ):
        assert client.get(url).status_code == 404, url


@pytest.mark.parametrize(
    "name",
    ["../up", "/abs", "a/../../up", "a//b", ".", "..", "", "a\0b", "a\nb", "a\x1bb", "a\u202eb",
     "-rf", "a/-rf", "a\\..\\b", "x" * 256, "\ud800"],
)  # fmt: skip
def test_no_name_leads_out_or_hides_something(name: str) -> None:
    assert rules.find_objection(name) is not None


@pytest.mark.parametrize("name", ["a", "a b/c.txt", "ünïcode/日本.txt", ".hidden", "a..b", "a/b-c"])
def test_ordinary_names_are_kept(name: str) -> None:
    assert rules.find_objection(name) is None


def test_a_zip_has_no_way_out(job: Job, tmp_path: Path) -> None:
    """Even if a name came into the database in another way."""
    Artifact.objects.filter(name="page.html").update(name="../../out")
    Artifact.objects.filter(name="data.json").update(name="/abs\x1b")
    rows = Artifact.objects.select_related("blob").order_by("id")
    data = b"".join(serving.zipped(rows))
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        for name in found.namelist():
            assert rules.find_objection(name) is None, name
        found.extractall(tmp_path / "in")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "own") == ["in"]


def test_no_step_can_name_an_address_of_ours(job: Job, client: Client) -> None:
    for name in ("..%2f..%2fauth%2fme", "../../auth/me", "%2e%2e/%2e%2e"):
        answer: Any = client.get(f"/api/jobs/{job.pk}/artifacts/{name}")
        assert answer.status_code == 404
