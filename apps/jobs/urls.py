"""Addresses of streams and task pages; the admin registers the other pages."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from apps.jobs.pages import live, removal
from apps.jobs.pages import tasks as admin_tasks

urlpatterns = [
    path("admin/jobs/<uuid:job_id>/live/", live.stream, name="jobs_live"),
    path("admin/jobs/<uuid:job_id>/log/", live.download, name="jobs_log"),
    path("admin/jobs/<uuid:job_id>/log/search/", live.find, name="jobs_log_search"),
    path(
        "admin/workspaces/<slug:workspace>/remove/",
        admin.site.admin_view(removal.remove),
        name="workspace_remove",
    ),
    path("admin/tasks/", admin.site.admin_view(admin_tasks.tasks), name="tasks"),
    path(
        "admin/tasks/<slug:workspace>/<path:name>/",
        admin.site.admin_view(admin_tasks.task),
        name="task",
    ),
]
