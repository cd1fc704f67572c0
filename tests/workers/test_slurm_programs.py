"""What sbatch and squeue answer at sites that wrap them, and what that means for the request."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.slurm_answers import Numbered
from workers import slurm
from workers.slurm import SlurmError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def program(place: Path, name: str, body: str) -> None:
    (place / name).write_text(f"#!/bin/bash\n{body}\n")
    (place / name).chmod(0o755)


@pytest.mark.parametrize(
    ("says", "found"),
    [
        ("echo 42", Numbered("42")),
        ("echo '42;mpp2'", Numbered("42", "mpp2")),
        ("echo 'Submitted batch job 42'", Numbered("42")),
        ("echo 'Submitted batch job 42 on cluster mpp2'", Numbered("42", "mpp2")),
        ("printf 'The 5th machine of 2024\\n--> OK\\n42\\n'", Numbered("42")),
        ("printf '42\\nBye, and see you in 2025!\\n'", Numbered("42")),
        ("printf 'f\\xfcr Sie\\n42\\n'; printf 'Gr\\xfc\\xdfe\\n' >&2", Numbered("42")),
    ],
)
def test_the_number_is_found_in_whatever_sbatch_says(
    place: Path, says: str, found: Numbered
) -> None:
    program(place, "sbatch", says)
    assert slurm.submit_job("#!/bin/sh\n") == found


def test_an_answer_without_a_number_is_an_error_that_shows_it(place: Path) -> None:
    program(place, "sbatch", "echo thanks")
    with pytest.raises(SlurmError, match="Failed to parse job ID from sbatch output: 'thanks'"):
        slurm.submit_job("")


@pytest.mark.parametrize(
    ("says", "is_away", "is_final"),
    [
        ("Batch job submission failed: Invalid partition name specified", False, True),
        ("Batch job submission failed: Invalid qos specification", False, True),
        ("Batch job submission failed: Requested node configuration is not available", False, True),
        ("Memory specification can not be satisfied", False, True),
        ("unrecognized option '--nodse=2'", False, True),
        ("Batch job submission failed: Job violates accounting/QOS policy", False, False),
        ("Unable to contact slurm controller (connect failure)", True, False),
        ("Batch job submission failed: Socket timed out on send/recv operation", True, False),
        ("Batch job submission failed: Invalid job credential", True, False),
        ("If munged is up, restart with --num-threads=10", True, False),
        ("Slurm temporarily unable to accept job, sleeping and retrying", True, False),
    ],
)
def test_an_absent_slurm_and_a_wrong_request_are_told_apart(
    place: Path, says: str, is_away: bool, is_final: bool
) -> None:
    program(place, "sbatch", f'echo "sbatch: error: {says}" >&2; exit 1')
    with pytest.raises(SlurmError) as caught:
        slurm.submit_job("")
    assert (caught.value.is_away, caught.value.is_final) == (is_away, is_final)


def test_a_search_that_fails_has_not_found_that_there_is_none(place: Path) -> None:
    program(place, "squeue", "echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1")
    with pytest.raises(SlurmError) as caught:
        slurm.find("stroem-a")
    assert caught.value.is_away


def test_a_job_is_found_by_name_on_the_clusters_that_may_have_it(place: Path) -> None:
    program(place, "squeue", '[[ "$*" == *"-M b"* ]] && { echo "CLUSTER: b"; echo 42; }; exit 0')
    assert slurm.find("stroem-a", ("a", "b")) == Numbered("42", "b")
    assert slurm.find("stroem-a") is None
