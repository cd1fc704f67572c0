"""Two workspaces with a library, and one that lends an action, for pictures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.browser.stage import Stage

EXAMPLE = Path(__file__).parents[2] / "examples" / "libraries"
PAGE = "/admin/workspaces/library/"
COMMITS = {
    "announcements": ("v2", "4f1c2ab90d3e5e7c01b6a3f9d2c48b7756e0a1c9"),
    "releases": ("main", "b07d94e1c6f28a35d1e90c47f3ab6852d9e4c013"),
}


def prepare(stage: Stage) -> str:
    """Returns the address of the page of a workspace with libraries."""
    from apps.workspaces.models import Library
    from apps.workspaces.services import import_folder

    for name, (ref, commit) in COMMITS.items():
        root = stage.folder / "workspaces" / name
        shutil.copytree(EXAMPLE, root)
        (root / ".workflows" / "libraries.lock").unlink()
        if name == "releases":
            lent = "exports: { actions: { notify: { to: [announcements], secrets: true } } }\n"
            action = 'actions: { notify: { type: script, script: "true" } }\n'
            (root / ".workflows" / "exports.yaml").write_text(lent + action)
        row = import_folder(name, root)
        # as if the folder were a repository: the picture shows no paths of this machine
        address = "https://git.example.com/platform/house.git"
        Library.objects.filter(workspace=row).update(address=address, ref=ref, commit=commit)
    Library.objects.filter(workspace=row).update(pinned_by="olga@example.org")
    return f"/admin/workspaces/workspace/{row.pk}/change/"
