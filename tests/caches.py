"""What a process remembers by id is another row once a database has been emptied."""

from __future__ import annotations


def forget() -> None:
    from apps.artifacts import blobs
    from apps.fleet import reach
    from apps.jobs import ledger
    from apps.jobs.flow import blueprints
    from apps.workspaces import fetches, revisions

    revisions._definitions.clear()
    revisions._known.clear()
    fetches.forget()
    revisions._looked_at.clear()
    reach.forget()
    blueprints.forget()
    ledger._pinned.cache_clear()
    ledger._workspace_of.cache_clear()
    blobs._mark_of_ours.cache_clear()
