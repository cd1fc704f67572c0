"""Following allocations: what Slurm's programs say, and what that means. The programs are scripts
that say it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from apps.workflow_actions.ledger import OpenAllocation
from workers import slurm
from workers.follower import AllocationFollower
from workers.slurm import SlurmJob

FORGOTTEN = 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'
AWAY = 'echo "Unable to contact slurm controller (connect failure)" >&2; exit 1'


class Programs:
    """Those of Slurm's that there are; what scancel was called with is kept."""

    def __init__(self, folder: Path, **bodies: str) -> None:
        self.folder = folder
        for name, body in {"scancel": f'echo "$@" >> {folder}/cancelled', **bodies}.items():
            (folder / name).write_text(f"#!/bin/bash\n{body}\n")
            (folder / name).chmod(0o755)

    @property
    def cancelled(self) -> str:
        file = self.folder / "cancelled"
        return file.read_text().strip() if file.exists() else ""


class Kept:
    """A ledger with these allocations that notes what is observed."""

    def __init__(self, *found: OpenAllocation) -> None:
        self.found = list(found)
        self.observations: dict[UUID, str] = {}

    def to_follow(self) -> list[OpenAllocation]:
        return self.found

    def observed(self, allocation_id: UUID, state: str, **_: str) -> None:
        self.observations[allocation_id] = state


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(slurm, "environment", lambda environ: {"PATH": f"{tmp_path}:/usr/bin:/bin"})
    return tmp_path


def opened(
    number: str, name: str, status: str = "pending", *, must_cancel: bool = False, cluster: str = ""
) -> OpenAllocation:
    return OpenAllocation(uuid4(), number, status, must_cancel, name, cluster)


def follow(*found: OpenAllocation) -> dict[str, str]:
    """Slurm's number -> the state that was noted."""
    kept = Kept(*found)
    AllocationFollower(SimpleNamespace(to_follow=kept.to_follow, observed=kept.observed)).follow()  # type: ignore[arg-type]
    return {
        one.slurm_job_id: kept.observations[one.allocation_id]
        for one in found
        if one.allocation_id in kept.observations
    }


def test_one_that_slurm_has_forgotten_keeps_nobody_from_following_and_cancelling_the_others(
    place: Path,
) -> None:
    programs = Programs(
        place,
        squeue='echo "8|PENDING||stroem-b|Priority"',
        scontrol=FORGOTTEN,
        sacct='echo "Slurm accounting storage is disabled" >&2; exit 1',
        scancel=f'[[ " $* " == *" 7 "* ]] && exit 1; echo "$@" >> {place}/cancelled',
    )
    gone, waiting = (
        opened("7", "stroem-a", must_cancel=True),
        opened("8", "stroem-b", must_cancel=True),
    )
    assert follow(gone, waiting) == {"7": "", "8": "PENDING"}
    assert programs.cancelled == "8"


def test_a_number_that_slurm_has_given_to_another_job_is_left_alone(place: Path) -> None:
    programs = Programs(place, squeue='echo "7|RUNNING|n1|of-somebody-else|None"')
    assert follow(opened("7", "stroem-a", must_cancel=True)) == {"7": ""}
    assert programs.cancelled == ""


def test_a_controller_that_does_not_answer_has_not_forgotten(place: Path) -> None:
    Programs(place, squeue="exit 0", scontrol=AWAY)
    assert follow(opened("7", "stroem-a", "active")) == {}


@pytest.mark.parametrize(
    ("says", "seen"),
    [
        ("COMPLETED|n[1-2]|stroem-a", SlurmJob("COMPLETED", "n[1-2]", "", "stroem-a")),
        ("CANCELLED by 0|None assigned|stroem-a", SlurmJob("CANCELLED by 0", "", "", "stroem-a")),
        ("", SlurmJob("")),
    ],
)
def test_the_accounts_are_asked_for_what_the_controller_has_forgotten(
    place: Path, says: str, seen: SlurmJob
) -> None:
    Programs(place, squeue=FORGOTTEN, scontrol=FORGOTTEN, sacct=f'echo "{says}"')
    assert slurm.look(["7"]) == {"7": seen}


def test_without_accounts_what_is_forgotten_is_unknown(place: Path) -> None:
    Programs(place, squeue=FORGOTTEN, scontrol=FORGOTTEN, sacct="exit 127")
    assert slurm.look(["7"]) == {"7": SlurmJob("")}


def test_accounts_that_do_not_answer_now_are_asked_again(place: Path) -> None:
    Programs(place, squeue=FORGOTTEN, scontrol=FORGOTTEN, sacct=AWAY)
    assert follow(opened("7", "stroem-a", "active")) == {}


def test_each_cluster_is_asked_for_its_own_and_one_that_is_away_hides_no_other(place: Path) -> None:
    programs = Programs(
        place,
        squeue=f"""case "$*" in
        *"-M mpp2"*) echo "CLUSTER: mpp2"; echo "7|PENDING||stroem-b|Priority";;
        *"-M gone"*) {AWAY};;
        *) echo "7|RUNNING|n1|stroem-a|None";;
        esac""",
    )
    here = opened("7", "stroem-a", "active")
    there = opened("7", "stroem-b", must_cancel=True, cluster="mpp2")
    away = opened("7", "stroem-c", cluster="gone")
    kept = Kept(away, here, there)
    follower = AllocationFollower(SimpleNamespace(to_follow=kept.to_follow, observed=kept.observed))  # type: ignore[arg-type]
    with pytest.raises(slurm.SlurmError, match="Unable to contact"):
        follower.follow()
    assert kept.observations == {here.allocation_id: "RUNNING", there.allocation_id: "PENDING"}
    assert programs.cancelled == "-M mpp2 7"
