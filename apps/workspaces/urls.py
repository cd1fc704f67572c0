"""Addresses of the pages of rights."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from apps.workspaces import rights_page

urlpatterns = [
    path("admin/rights/", admin.site.admin_view(rights_page.page), name="rights"),
    path(
        "admin/rights/matching/",
        admin.site.admin_view(rights_page.matching_tasks),
        name="rights_matching",
    ),
]
