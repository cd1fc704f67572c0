"""The page of an artifact, below that of its job."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from apps.artifacts.files import pages

urlpatterns = [
    path(
        "admin/jobs/job/<uuid:job_id>/artifacts/<int:artifact_id>/",
        admin.site.admin_view(pages.artifact),
        name="artifact",
    )
]
