"""One installation and one browser for all tests of this folder; each test has its own pages.

All share the test database, which is emptied after the last test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from playwright.sync_api import Browser, Page, expect, sync_playwright

from apps.accounts.models import User
from tests import caches
from tests.browser.network import alone
from tests.browser.stage import Stage

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1360, "height": 900}
# The first test of a process starts server, scheduler, worker and browser, each with its own limit.
WITHIN_S = 300
expect.set_options(timeout=30_000)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "stage" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.django_db(transaction=True))
            item.add_marker("long")  # a whole installation starts
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(WITHIN_S))
        if "opened" in getattr(item, "fixturenames", ()):
            item.add_marker("chromium")
            # Without a network of its own, Chromium drops requests when the host's changes.
            item.add_marker(pytest.mark.flaky(reruns=2, only_rerun=[NETWORK_CHANGED]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure of a page whose requests were dropped says so, whatever the test missed on it."""
    report = yield
    crash = getattr(report.longrepr, "reprcrash", None)
    complaints = " ".join(text for one in item.stash.get(WATCHED, ()) for text in one.complaints)
    if report.failed and crash is not None and NETWORK_CHANGED in complaints:
        crash.message += f" ({NETWORK_CHANGED})"
    return report


@pytest.fixture
def _django_db_helper() -> None:
    """Replaces pytest-django's, which empties the database after each test."""


@pytest.fixture(scope="package")
def stage(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    # Playwright keeps an event loop in this thread; the ORM is used next to it
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with django_db_blocker.unblock():
        call_command("flush", interactive=False, verbosity=0, reset_sequences=False)
        # early, as module fixtures start jobs before function fixtures run
        caches.forget()
        built = Stage(tmp_path_factory.mktemp("stage"))
        try:
            built.open()
            yield built
        finally:
            built.close()
            call_command("flush", interactive=False, verbosity=0, reset_sequences=False)
            connections.close_all()
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("Chromium is not installed")
    network = alone(found, tmp_path_factory.mktemp("chromium"))
    with network as (program, more), sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=program, headless=True, args=[*FLAGS, *more]
        )
        yield launched
        launched.close()
        # connections opened next to Playwright's loop are not found after it has ended
        connections.close_all()


class Watched:
    """What no page may do: log errors, throw, or request anything from another host."""

    def __init__(self, page: Page, home: str) -> None:
        self.complaints: list[str] = []
        page.on(
            "console",
            lambda message: (
                self._note(f"{message.text} ({message.location.get('url')})")
                if message.type in ("error", "warning")
                else None
            ),
        )
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on(
            "dialog", lambda dialog: (self._note(f"dialog: {dialog.message}"), dialog.dismiss())
        )
        page.on(
            "request",
            lambda request: None if request.url.startswith(home) else self._note(request.url),
        )

    def _note(self, text: str) -> None:
        self.complaints.append(text[:500])


Opener = Callable[..., Page]
WATCHED = pytest.StashKey[list[Watched]]()


@pytest.fixture
def opened(stage: Stage, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """`opened(user, phone=False, dark=False)`: a page of this signed-in user (None: anonymous)."""
    contexts = []
    watched = request.node.stash[WATCHED] = list[Watched]()

    def open_page(user: User | None, *, phone: bool = False, dark: bool = False) -> Page:
        context = browser.new_context(
            viewport=PHONE if phone else DESKTOP,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            base_url=stage.url,
        )
        contexts.append(context)
        if user is not None:
            context.add_cookies([stage.cookie(user)])
        context.set_default_timeout(30_000)
        context.set_default_navigation_timeout(60_000)
        page = context.new_page()
        watched.append(Watched(page, stage.url))
        return page

    yield open_page
    for context in contexts:
        context.close()
    complaints = [text for one in watched for text in one.complaints if "favicon" not in text]
    assert not complaints, complaints
