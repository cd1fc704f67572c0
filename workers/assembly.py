"""Assembles a worker with everything outside its process: guard, directories, leftovers of dead
attempts."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from engine.resources import Offer
from engine.slurm_script import Launch
from engine.spec.tags import SUBMITS
from runners import cleanup
from runners.catalog import Catalog, CatalogConfig
from runners.guard.guard import Guard
from runners.host.canary import Canary
from runners.host.environment import User, find_user
from runners.host.local import LocalConfig
from workers import leaver
from workers.actions import Actions
from workers.allocation import AllocationPlace
from workers.artifacts import Shelf
from workers.attempts import Attempts, Presence, Slots, Timing
from workers.bells import Ringer
from workers.config import WorkerConfig
from workers.disk import WorkerDirectory
from workers.door import OUTAGES, Doors, Ledger
from workers.execution import Execution
from workers.follower import AllocationFollower
from workers.lane import SLOW_POLL_S, Crew, Lane
from workers.node_environment import passed
from workers.outputs import Outputs
from workers.packing import Packing, find_gpus
from workers.pipes import Helpers
from workers.pods import Pins
from workers.process import Eviction, Worker
from workers.reporting import LogPump
from workers.revisions import FOLDER_MODE
from workers.states import States
from workers.trees import Scratches, Workspaces
from workers.users import Users
from workers.visits import Visits

log = logging.getLogger("stroem.worker")
SWEEP_EVERY_S = 20.0
MOST_ACTIONS = 8  # at a time
LOCAL_SWEEP_EACH = 15  # it reads every process of the host


@dataclass(slots=True)
class Assembly:
    """A worker and everything around it. `open` before the first step, `close` after the last."""

    worker: Worker
    presence: Presence
    guard: Guard
    catalog: Catalog
    attempts: Attempts
    directory: WorkerDirectory
    ledger: Ledger
    packing: Packing | None
    follower: AllocationFollower | None
    canary: Canary
    outputs: Outputs
    users: Users
    _closing: threading.Event = field(default_factory=threading.Event)

    def open(self, hurry: threading.Event) -> bool:
        """Start guard and worker once the database answers; False when `hurry` was set first."""
        self.guard.start()
        self.canary.start()
        self.guard.know_engines(cleanup.describe(self.catalog.config))
        said = ""
        while not hurry.is_set():
            try:
                if self.presence.register():
                    self.worker.start()
                    if self.follower is not None:
                        self.follower.start()
                    threading.Thread(target=self._sweep, name="sweeper", daemon=True).start()
                    return True
            except OUTAGES as error:
                if not said:
                    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    log.warning("waiting for the database: %s", said)
            hurry.wait(1.0)
        return False

    def close(self) -> None:
        self._closing.set()
        if self.follower is not None:
            self.follower.close()
        self.guard.close()
        self.canary.close()
        self.directory.close()
        self.users.close()

    def _sweep(self) -> None:
        """Remove containers, pods and processes of attempts whose worker died, again and again."""
        for turn in itertools.count():
            try:
                if turn % LOCAL_SWEEP_EACH == 0:
                    self.catalog.sweep(self.attempts.names())
                self.catalog.sweep_away(self.attempts.names(), self.ledger.ended)
            except Exception as error:  # noqa: BLE001  (an outer edge: an engine that is down must not end the thread)
                log.warning("looking for leftovers of earlier steps failed: %s", error)
            finally:
                self.ledger.released()
            if self._closing.wait(SWEEP_EVERY_S):
                return


def assemble(
    config: WorkerConfig,
    doors: Doors,
    launch: Launch,
    *,
    lease_s: float,
    version: str,
    withheld: Collection[str] = (),
    job_id: UUID | None = None,
    allocation: AllocationPlace | None = None,
    eviction: Eviction | None = None,
) -> Assembly:
    """A worker with this configuration. Raises StroemError when it cannot work.

    `launch` starts a worker on a node; `withheld` are values that no `pass_env` lets through to
    steps and commands; `eviction` hears of the signals that tell the worker to leave.
    """
    timing = Timing.of(lease_s, config.stop_grace_secs)
    host = _Host.of(config, lease_s, timing, eviction or Eviction())
    attempts, slots = Attempts(), Slots(config.max_concurrent)
    offers = {**config.offers, **(allocation.offers if allocation and config.offers else {})}
    presence = Presence(
        doors.ledger, config, attempts, host.guard, timing,
        version=version, busy=lambda: slots.busy, job_id=job_id, offers=offers,
    )  # fmt: skip
    visits = Visits(
        doors.allocations, lambda: presence.worker_id, allocation.id if allocation else None, job_id
    )
    pump, ringer = LogPump(doors.ledger.append, doors.ledger.released), Ringer(doors.bells)
    crew = Crew(doors.ledger, presence, attempts, ringer, lease_s, job_id)
    outputs = _outputs(config, doors, host, allocation, job_id)
    given = _given(config, host.directory, allocation, withheld)
    catalog = Catalog(_catalog_config(config, host.directory, given), host.guard)
    packing = _packing(config, offers)
    execution = _execution(config, doors, host, pump, catalog, outputs, visits, allocation)
    steps = _lane_of_steps(crew, slots, execution, config, packing, allocation)
    actions = _actions(config, doors, host, pump, outputs, launch, given)
    beside = _lane_of_actions(crew, actions, config, visits)
    worker = Worker(
        config, doors.ledger, doors.bells, doors.app, presence, attempts, pump, ringer, steps,
        [beside], visits,
    )  # fmt: skip
    presence.after = worker.refresh_tag_sets
    follower = AllocationFollower(doors.allocations) if SUBMITS in config.tags else None
    return Assembly(
        worker, presence, host.guard, catalog, attempts, host.directory, doors.ledger, packing,
        follower, host.canary, outputs, host.users,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Host:
    """What a worker has of its host: users for steps, a user for actions, a directory, a guard,
    and what tells it that it was told to leave."""

    users: Users
    user: User | None
    directory: WorkerDirectory
    guard: Guard
    canary: Canary
    eviction: Eviction

    @classmethod
    def of(cls, config: WorkerConfig, lease_s: float, timing: Timing, eviction: Eviction) -> _Host:
        users, canary = Users(config.run_as), Canary()
        user = _user_of_actions(config, users)
        directory = WorkerDirectory(config.workspace_cache_dir, is_shared=bool(users.all))
        eviction.is_group_told = canary.was_told_to_end
        return cls(users, user, directory, Guard(lease_s, timing.guard_margin_s), canary, eviction)


def _user_of_actions(config: WorkerConfig, users: Users) -> User | None:
    name = config.run_actions_as or (config.run_as[0] if config.run_as else None)
    user = find_user(name) if name else None
    if users.is_exclusive and user is not None:
        users.check_group(user)
    return user


def _outputs(
    config: WorkerConfig,
    doors: Doors,
    host: _Host,
    allocation: AllocationPlace | None,
    job_id: UUID | None,
) -> Outputs:
    """Output directories; in an allocation, the job's own on the host that requested it."""
    root = config.output_root or config.workspace_cache_dir / "output"
    is_for_group = host.users.is_exclusive
    outputs = Outputs(root, host.user, is_for_group=is_for_group, tell=doors.allocations.opened)
    if allocation is not None and allocation.output_dir and job_id is not None:
        outputs.adopt(job_id, allocation.output_dir)
        if outputs.difference:
            log.warning("%s", outputs.difference)
    return outputs


def _given(
    config: WorkerConfig,
    directory: WorkerDirectory,
    allocation: AllocationPlace | None,
    withheld: Collection[str],
) -> dict[str, str]:
    """Variables of this process that steps and commands get, too."""
    given = passed(config.pass_env, withheld)
    if allocation is not None:
        given |= allocation.environment(directory.root / "hosts", withheld)
    return given


def _packing(config: WorkerConfig, offers: Mapping[str, float | int]) -> Packing | None:
    if not offers:
        return None
    return Packing(Offer.of(offers), find_gpus(config.num_gpus), offers.get("ends_at"))


def _actions(
    config: WorkerConfig,
    doors: Doors,
    host: _Host,
    pump: LogPump,
    outputs: Outputs,
    launch: Launch,
    given: Mapping[str, str],
) -> Actions:
    """What performs workflow actions."""
    return Actions(
        doors.ledger, doors.allocations, outputs, host.guard, launch, pump,
        stop_grace_s=config.stop_grace_secs, user=host.user, given=given,
        judge=host.eviction.judge, umask=config.umask,
    )  # fmt: skip


def _lane_of_actions(crew: Crew, actions: Actions, config: WorkerConfig, visits: Visits) -> Lane:
    lane = Lane(
        crew, Slots(MOST_ACTIONS), actions, lambda: crew.ledger.covered_actions(config.tags),
        before_look=partial(visits.look_after, crew.attempts), expected=visits.by_job,
    )  # fmt: skip
    visits.wake = lane.wake
    return lane


def _lane_of_steps(
    crew: Crew,
    slots: Slots,
    execution: Execution,
    config: WorkerConfig,
    packing: Packing | None,
    allocation: AllocationPlace | None,
) -> Lane:
    serves = allocation.serves if allocation else lambda key: True
    return Lane(
        crew, slots, execution,
        lambda: [ref for ref in crew.ledger.covered(config.tags) if serves(ref.key)],
        packing=packing, slow_poll_s=config.poll_interval_secs or SLOW_POLL_S,
    )  # fmt: skip


def _execution(
    config: WorkerConfig,
    doors: Doors,
    host: _Host,
    pump: LogPump,
    catalog: Catalog,
    outputs: Outputs,
    visits: Visits,
    allocation: AllocationPlace | None,
) -> Execution:
    """What performs steps."""
    workspaces = Workspaces(
        host.directory,
        doors.archive,
        max_retained=config.max_retained_revisions,
        mode=0o700 if host.users.is_exclusive else FOLDER_MODE,
    )
    return Execution(
        doors.ledger,
        workspaces,
        Scratches(host.directory),
        pump,
        catalog.choose,
        Pins(config.server_url, doors.pass_for),
        doors.events,
        stop_grace_s=config.stop_grace_secs,
        runner_image=config.runner_image,
        users=host.users,
        umask=config.umask,
        outputs=outputs,
        visits=visits,
        judge=host.eviction.judge,
        walltime_grace_s=leaver.steps_grace_s(config, allocation) if allocation else None,
        states=States(doors.states),
        shelf=Shelf(doors.artifacts),
        helpers=Helpers(doors.ledger, doors.artifacts),
    )


def _catalog_config(
    config: WorkerConfig, directory: WorkerDirectory, given: Mapping[str, str]
) -> CatalogConfig:
    local = None
    if "script" in config.tags:
        local = LocalConfig(
            config.dependency_cache_dir or directory.cache / "environments",
            run_as=config.run_as[0] if config.run_as else None,
            env=given,
        )
    return CatalogConfig(
        owner=config.worker_name,
        local=local,
        docker=config.docker,
        kubernetes=config.kubernetes,
        runner_image=config.runner_image,
    )
