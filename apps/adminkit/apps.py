"""The admin's pages are imported by those who need them: the URLs and the checks. Commands do not
wait for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class AdminkitConfig(AppConfig):
    name = "apps.adminkit"
    default = True


class PagesConfig(SimpleAdminConfig):
    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_pages, checks.Tags.admin)


def check_pages(
    app_configs: Sequence[AppConfig] | None, **more: Any
) -> Iterable[checks.CheckMessage]:
    """Django's checks of the pages, after all of them are known."""
    from django.contrib import admin

    admin.autodiscover()
    return check_admin_app(app_configs, **more)
