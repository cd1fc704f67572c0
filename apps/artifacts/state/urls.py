"""Addresses of the pages of states."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from apps.adminkit import panels
from apps.artifacts.state import pages

panels.task_page.add("artifacts/state_panel.html", pages.panel, order=10)
panels.workspace_page.add("artifacts/state_panel.html", pages.panel, order=10)

urlpatterns = [
    path("admin/state/<slug:workspace>/", admin.site.admin_view(pages.page), name="state"),
    path(
        "admin/state/<slug:workspace>/restore/",
        admin.site.admin_view(pages.restore),
        name="state_restore",
    ),
    path(
        "admin/state/<slug:workspace>/tasks/<path:name>/restore/",
        admin.site.admin_view(pages.restore),
        name="state_restore",
    ),
    path(
        "admin/state/<slug:workspace>/tasks/<path:name>/",
        admin.site.admin_view(pages.page),
        name="state",
    ),
]
