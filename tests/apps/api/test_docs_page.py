"""Swagger UI: served from here, and for people who have signed in."""

from __future__ import annotations

import re

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from tests.apps.api.callers import user

pytestmark = pytest.mark.django_db


def test_the_page_needs_nothing_from_elsewhere() -> None:
    client = Client()
    client.force_login(user())
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    text = page.content.decode()
    assert re.findall(r"<script(?![^>]*src=)", text) == []  # the policy forbids them
    files = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert all(file.startswith("/") for file in files), files
    for file in files:
        if file.startswith("/static/"):
            assert finders.find(file.removeprefix("/static/")), file
    script = client.get("/api/docs?script=")
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert '"/api/schema"' in script.content.decode()


def test_who_has_not_signed_in_is_led_to_the_sign_in_page() -> None:
    answer = Client().get("/api/docs")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/login/?next=/api/docs")
