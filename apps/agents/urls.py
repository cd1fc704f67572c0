"""The address of a transcript, below that of its step's part of the job page."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from apps.agents import pages

urlpatterns = [
    path(
        "admin/jobs/job/<uuid:job_id>/steps/<int:step_id>/transcript/",
        admin.site.admin_view(pages.transcript),
        name="agents_transcript",
    )
]
