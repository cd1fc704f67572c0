"""A task that remembers: four versions of its values and files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.browser.stage import Stage

FILES = """
tasks:
  import-orders:
    name: Import orders
    description: Takes what is new since the last time
    state: { on_conflict: serialize }
    flow: { fetch: { type: script, script: "echo 'STATE: {}'" } }
"""
PAGE = "/admin/state/orders/tasks/import-orders/"
GLOBAL = "/admin/state/orders/"
TASK = "/admin/tasks/orders/import-orders/"


def prepare(stage: Stage) -> None:
    from apps.artifacts import blobs
    from apps.artifacts.state.keeping import Writer
    from apps.jobs.models import Job
    from apps.workspaces.models import Workspace
    from engine.state import Change, StateFile
    from tests.apps.artifacts.remembering import remember

    if stage.has("orders"):
        return
    stage.workspace("orders", FILES)
    blobs.establish()
    row = Workspace.objects.get(name="orders")

    def file(path: str, text: str) -> StateFile:
        found = blobs.put(io.BytesIO(text.encode()))
        return StateFile(path, found.size, found.digest, False, found.id)

    customers = "id,name\n1,Ada\n"
    changes = (
        Change(0, {"cursor": "2026-11-01T06:00:00Z", "orders": 0, "mode": "full"}),
        Change(1, {"orders": 118}, (), (file("customers.csv", customers), file("skus.txt", "a"))),
        Change(2, {"cursor": "2026-11-02T06:00:00Z", "orders": 131, "failed": [17, 23]}, ("mode",)),
        Change(3, {"cursor": "2026-11-03T06:00:00Z", "orders": 97}, (), (
            file("customers.csv", customers + "2,Grace\n"), file("models/demand.json", "{}"),
        )),
    )  # fmt: skip
    for change in changes:
        job = stage.start("import-orders", None, "orders")
        stage.until_job(job, "completed")
        remember(row.pk, "import-orders", change, Writer("step", job.pk, "fetch"))
    remember(row.pk, "", Change(0, {"region": "eu"}), Writer("upload", by=stage.olga.email))
    assert Job.objects.filter(workspace=row).count() == len(changes)
