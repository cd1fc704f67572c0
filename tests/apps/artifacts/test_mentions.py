"""A script in a file of its own may leave files, though no definition says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.jobs.flow import blueprints
from apps.workspaces.services import import_folder
from tests.apps.jobs.builders import start

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = "tasks: {main: {flow: {a: {type: script, runner: pod, source: make.sh}}}}\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("helper.py", 'open(os.environ["ARTIFACTS_DIR"] + "/x", "w")\r\n', True),
        ("make.sh", "echo > $ARTIFACTS_DIR/x", True),
        ("README.md", "Write to $ARTIFACTS_DIR", False),
        ("helper.py", "", False),
    ],
)
def test_a_file_that_mentions_the_directory_is_noticed(
    tmp_path: Path, name: str, text: str, expected: bool
) -> None:
    (tmp_path / "w.yaml").write_text(FLOW)
    (tmp_path / "make.sh").write_text("true\n")
    (tmp_path / name).write_text(text)
    row = import_folder("shop", tmp_path)
    job = start(row)
    assert blueprints.load(job.blueprint_id).mentions_artifacts is expected
