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
    client.get("/admin/", secure=True)  # the first request finds the pages
    names = {}
    for model, page in admin.site._registry.items():
        address = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        text = unescape(client.get(address, secure=True).content.decode())
        (names[address],) = re.findall(r"<title>\s*([^<]*?) \| Stroem\s*</title>", text)
        assert re.findall(r"<h1[^>]*>([^<]*)</h1>", text) == [names[address]], address
        title = str(getattr(page, "list_title", "") or model._meta.verbose_name_plural)
        assert names[address].lower() == title.lower()
    assert names["/admin/jobs/job/"] == "Jobs" and names["/admin/audit/entry/"] == "Audit log"
