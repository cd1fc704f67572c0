"""States out of a few words."""

from __future__ import annotations

from django.db import transaction

from apps.artifacts.models import StateVersion
from apps.artifacts.state import keeping
from apps.artifacts.state.keeping import Writer
from engine.state import Change


@transaction.atomic
def remember(workspace_id: int, task: str, change: Change, writer: Writer) -> StateVersion:
    """The next version of a state; of the workspace's own without a task."""
    return keeping.record(keeping.locked(workspace_id, task), change, writer)
