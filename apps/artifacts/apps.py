from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import AppConfig

if TYPE_CHECKING:
    from apps.jobs.log.archive import Archive
    from apps.jobs.ports import Keeper
    from apps.workspaces.models import Workspace
    from engine.spec.model import Problem
    from engine.spec.model import Workspace as Definition


class ArtifactsConfig(AppConfig):
    name = "apps.artifacts"
    verbose_name = "Artifacts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.artifacts.files import leaving, shelf
        from apps.artifacts.logs import leaving as log_leaving
        from apps.jobs import ports
        from apps.jobs.log import archive
        from apps.workspaces.ports import on_check

        on_check("keeping", _doubts, about=("logs", "artifacts"))
        ports.on_files(shelf.listed)
        ports.on_removal("artifacts", leaving.on_removal)
        ports.on_removal("log lines", log_leaving.on_removal)
        archive.keep(_archive)
        ports.keep(_keeper)


def _doubts(workspace: Workspace, definition: Definition) -> list[Problem]:
    """Imported when files are read."""
    from apps.artifacts import keeping

    return keeping.doubts(workspace, definition)


def _keeper() -> Keeper:
    """Imported when the first step asks for it: short commands do not."""
    from apps.artifacts.state.keeping import Shelf

    return Shelf()


def _archive() -> Archive:
    from apps.artifacts.logs import reading

    return reading.Archive()
