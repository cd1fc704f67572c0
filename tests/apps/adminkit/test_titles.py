"""Titles of pages: what a tab of a browser and its history show."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from django.contrib import admin
from django.test import Client

from tests.apps.approvals.gates import gate, operator


@pytest.mark.django_db
def test_a_list_is_called_by_what_it_lists(client: Client, tmp_path: Path) -> None:
    gate(tmp_path)  # secrets need a workspace
    client.force_login(operator(is_superuser=True))
    assert (
        client.get("/admin/", secure=True).status_code == 200
    )  # the first request finds the pages
    lists = {
        f"/admin/{meta.app_label}/{meta.model_name}/": str(meta.verbose_name_plural)
        for meta in (model._meta for model in admin.site._registry)
    }
    for address, name in lists.items():
        page = unescape(client.get(address, secure=True).content.decode())
        titles = re.findall(r"<title>\s*([^<]*?)\s*</title>", page)
        assert titles == [f"{name[0].upper()}{name[1:]} | Stroem"], address
    assert "/admin/jobs/job/" in lists
