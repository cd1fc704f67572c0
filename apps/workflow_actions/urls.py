"""The address of a workflow action's part of the job page."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from apps.workflow_actions import pages

urlpatterns = [
    path(
        "admin/jobs/<uuid:job_id>/actions/<int:action_id>/",
        admin.site.admin_view(pages.action),
        name="workflow_action",
    )
]
