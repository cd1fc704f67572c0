"""A worker that exists only as calls of the ledgers, and what may be read of a job's actions."""

from __future__ import annotations

from collections.abc import Mapping

from apps.jobs import ledger as steps
from apps.jobs.ledger import Claim, Report
from apps.jobs.models import Job
from apps.workflow_actions.models import JobAction, Member
from apps.workflow_actions.snapshots import Run, runs_of
from engine.orders import StepOutcome
from tests.apps.jobs.builders import DONE, Hand


class ActionHand(Hand):
    """Takes steps and actions where the test says so."""

    def take_action(self) -> Claim | None:
        return steps.claim(self.id, [ref.id for ref in steps.covered_actions(self.tags)])

    def finish_action(self, found: Claim, outcome: StepOutcome = DONE) -> None:
        assert reported(found, outcome)

    def do_actions(
        self, outcomes: Mapping[str, StepOutcome] | None = None, limit: int = 1000
    ) -> list[str]:
        """Take and finish actions until none is left; their labels in order."""
        done: list[str] = []
        while (found := self.take_action()) is not None:
            assert len(done) < limit, "actions do not come to an end"
            done.append(found.label)
            assert reported(found, (outcomes or {}).get(found.label, DONE))
        return done

    def live_on(self, outcomes: Mapping[str, StepOutcome] | None = None) -> list[str]:
        """Do whatever there is, actions before each step; the labels of the actions."""
        done = self.do_actions(outcomes)
        while (claim := self.claim()) is not None:
            assert self.start(claim)
            self.finish(claim, (outcomes or {}).get(claim.step_name, DONE))
            done += self.do_actions(outcomes)
        return done


def actions(job: Job, generation: int | None = None) -> dict[str, str]:
    """Label -> status, in the job's newest generation."""
    if generation is None:
        generation = Job.objects.values_list("generation", flat=True).get(id=job.id)
    rows = JobAction.objects.filter(job_id=job.id, generation=generation).order_by("index")
    return {str(row): row.status for row in rows}


def action(job: Job, label: str) -> JobAction:
    rows = JobAction.objects.filter(job_id=job.id).order_by("-generation", "index")
    return next(row for row in rows if str(row) == label)


def count(job: Job, label: str) -> tuple[int, int]:
    """(steps that have reached what is waited for, steps watched)."""
    members = Member.objects.filter(action=action(job, label))
    return members.filter(reached_at__isnull=False).count(), members.count()


def reported(claim: Claim, outcome: StepOutcome = DONE, progress: int | None = None) -> bool:
    """Whether the report counted."""
    return steps.finish(Report(claim, outcome, progress=progress)).accepted


def tries(job: Job, label: str) -> list[Run]:
    """Every try of the action, in the order in which they were begun."""
    row = action(job, label)
    return runs_of(job.id, row.id).get(row.id, [])


def runs(job: Job, label: str) -> list[str]:
    return [run.status for run in tries(job, label)]


__all__ = ["ActionHand", "action", "actions", "count", "reported", "runs", "steps", "tries"]
