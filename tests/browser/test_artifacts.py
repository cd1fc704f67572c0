"""Files on pages, in a real browser: they are shown, nothing in them runs, everybody can use it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from apps.jobs.models import Job
from tests.browser import artifact_scene
from tests.browser.conftest import PHONE, WATCHED, Opener
from tests.browser.stage import Stage
from tests.browser.test_pages import serious

BLOCKED = re.compile("[Bb]locked|violates|^chrome(-extension)?:")
NAMES = (
    "times.csv", "notes.md", "summary.json", "plots/pixel.png", "plots/trend.svg", "coverage.html",
    "paper.pdf", "packages/app-2.4.0.bin",
)  # fmt: skip


@pytest.fixture(scope="module")
def job(stage: Stage) -> Job:
    found = artifact_scene.prepare(stage)
    assert found.status == "completed"
    return found


@pytest.fixture
def opener(opened: Opener, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """The browser complains that it blocks what it shall, and loads its own viewer of PDF."""
    yield opened
    for watched in request.node.stash[WATCHED]:
        watched.complaints[:] = [text for text in watched.complaints if not BLOCKED.search(text)]


@pytest.fixture
def page(opener: Opener, stage: Stage) -> Page:
    return opener(stage.olga)


def test_the_job_page_lists_them(page: Page, stage: Stage, job: Job) -> None:
    page.goto(stage.job_url(job))
    page.locator("#tab-details").click()
    for name in NAMES:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="All as one zip")).to_be_visible()
    assert serious(page) == []


def test_each_kind_is_shown_and_accessible(page: Page, stage: Stage, job: Job) -> None:
    for name in NAMES:
        page.goto(stage.url + artifact_scene.page_of(job, name))
        expect(page.locator(".st-head h1")).to_have_text(name)
        assert serious(page) == [], name
    page.goto(stage.url + artifact_scene.page_of(job, "times.csv"))
    expect(page.get_by_role("cell", name="=1+1, as text")).to_be_visible()
    page.goto(stage.url + artifact_scene.page_of(job, "notes.md"))
    expect(page.get_by_role("heading", name="Release 2.4.0")).to_be_visible()
    page.goto(stage.url + artifact_scene.page_of(job, "plots/pixel.png"))
    picture = page.locator("img.st-picture")
    expect(picture).to_be_visible()
    assert picture.evaluate("(one) => one.naturalWidth") > 0


@pytest.mark.parametrize("name", ["coverage.html", "plots/trend.svg"])
def test_nothing_in_a_frame_runs(page: Page, stage: Stage, job: Job, name: str) -> None:
    asked: list[str] = []
    page.on("response", lambda answer: asked.append(answer.url))
    where = stage.url + artifact_scene.page_of(job, name)
    page.goto(where)
    frame = page.frame_locator("iframe")
    if name == "coverage.html":
        expect(frame.locator("h1")).to_have_text("Coverage 94 %")
        expect(frame.locator("#p")).to_have_text("Nothing runs here.")
    else:
        expect(frame.locator("polyline")).to_be_attached()
    assert page.url == where and "run" not in page.title().split()
    assert not [url for url in asked if url.endswith("/api/auth/me")]


def test_nor_does_it_by_itself(page: Page, stage: Stage, job: Job) -> None:
    """Somebody opens the address of the frame."""
    row = artifact_scene.artifact(job, "coverage.html")
    page.goto(f"{stage.url}/api/jobs/{job.pk}/artifacts/{row.name}?preview=true")
    expect(page.locator("#p")).to_have_text("Nothing runs here.")
    assert page.evaluate("window.origin") == "null"


@pytest.mark.parametrize("name", ["times.csv", "coverage.html"])
def test_a_phone_shows_them_without_scrolling_sideways(
    opener: Opener, stage: Stage, job: Job, name: str
) -> None:
    page = opener(stage.olga, phone=True)
    page.goto(stage.url + artifact_scene.page_of(job, name))
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]
