"""How many files of the house a reader enters to follow one thought."""

from __future__ import annotations

import runpy
from pathlib import Path
from threading import Thread

import pytest
from django.test import Client

from engine import durations
from tests.apps.approvals.gates import asked, gate, operator, request_of, step_of
from tests.architecture.walks import Walk


@pytest.mark.django_db(transaction=True)
def test_a_person_decides_in_few_files(tmp_path: Path) -> None:
    workspace, client = gate(tmp_path), Client()
    client.force_login(operator())
    for _ in range(2):  # the first click may still import
        job = asked(workspace)
        request = request_of(job)
        with Walk() as walk:
            answer = client.post(
                f"/admin/approvals/approvalrequest/{request.pk}/decide/",
                {"decision": "approve", "shown": request.digest},
            )
    assert answer.status_code == 302
    assert step_of(job).output["approved"]
    assert len(walk.files) <= 15, f"{len(walk.files)} files\n{walk}"


def test_a_walk_counts_what_is_called_in_every_thread_and_not_what_is_imported() -> None:
    with Walk() as walk:
        runpy.run_path(str(durations.__file__))
    assert walk.files == []
    with Walk() as walk:
        thread = Thread(target=durations.parse, args=("5m",))
        thread.start()
        thread.join()
    assert walk.files == ["engine/durations.py"]
    durations.describe(5)
    assert "describe" not in walk.calls["engine/durations.py"]
