"""Addresses of the pages of connections."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from apps.adminkit import panels
from apps.connections import pages

panels.workspace_page.add("connections/workspace_panel.html", pages.panel, order=5)

urlpatterns = [
    path("admin/connections/", admin.site.admin_view(pages.listing), name="connections"),
    path(
        "admin/connections/<slug:workspace>/add/<path:kind>/",
        admin.site.admin_view(pages.add),
        name="connection_add",
    ),
    path(
        "admin/connections/<slug:workspace>/check/<path:name>/",
        admin.site.admin_view(pages.check),
        name="connection_check",
    ),
    path(
        "admin/connections/<slug:workspace>/remove/<path:name>/",
        admin.site.admin_view(pages.remove),
        name="connection_remove",
    ),
    path(
        "admin/connections/<slug:workspace>/of/<path:name>/",
        admin.site.admin_view(pages.connection),
        name="connection",
    ),
]
