"""Follows Slurm's allocations and cancels those no longer needed. Runs on any worker that can call
Slurm."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence

from apps.workflow_actions.ledger import OpenAllocation
from workers import slurm
from workers.door import OUTAGES, NodeLedger
from workers.slurm import SlurmError, SlurmJob

log = logging.getLogger("stroem.worker")
EVERY_S = 2.0


class AllocationFollower(threading.Thread):
    """Asks Slurm every two seconds while allocations are open. Safe on any number of workers."""

    def __init__(self, ledger: NodeLedger) -> None:
        super().__init__(name="slurm", daemon=True)
        self._ledger = ledger
        self._closing = threading.Event()
        self._said = ""

    def close(self) -> None:
        self._closing.set()

    def run(self) -> None:
        while not self._closing.wait(EVERY_S):
            try:
                self.follow()
                self._said = ""
            except SlurmError as error:
                self._complain(str(error))
            except OUTAGES as error:
                self._complain(f"the database does not answer ({type(error).__name__})")
            except Exception:
                log.exception("following allocations failed")
            finally:
                self._ledger.released()

    def follow(self) -> None:
        """One look at all open allocations."""
        by_cluster: dict[str, list[OpenAllocation]] = defaultdict(list)
        for one in self._ledger.to_follow():
            by_cluster[one.cluster].append(one)
        errors: list[SlurmError] = []
        for cluster, followed in by_cluster.items():
            try:
                self._follow(cluster, followed)
            except SlurmError as error:  # the other clusters may answer
                errors.append(error)
        if errors:
            raise errors[0]

    def _follow(self, cluster: str, followed: Sequence[OpenAllocation]) -> None:
        seen = slurm.look([one.slurm_job_id for one in followed], cluster)
        unwanted: list[str] = []
        for one in followed:
            found = seen.get(one.slurm_job_id)
            if found is None:
                continue
            # Slurm has restarted its numbering: this is another job
            if found.name not in ("", one.name):
                found = SlurmJob("")
            self._ledger.observed(
                one.allocation_id, found.state, nodes=found.nodes, reason=found.reason
            )
            if found.state and one.must_cancel and one.status == "pending":
                unwanted.append(one.slurm_job_id)
        if unwanted:
            slurm.cancel(unwanted, cluster)

    def _complain(self, sentence: str) -> None:
        if sentence != self._said:
            log.warning("allocations: %s", sentence)
        self._said = sentence
