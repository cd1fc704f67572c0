"""Free processors, memory and GPUs of this worker. Steps are packed into them, not counted."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from apps.jobs.ledger import Claim
from engine.resources import Need, Offer, split_tags

LEAST_CPUS = 1  # of a step that declares none


@dataclass(frozen=True, slots=True)
class Share:
    """What one step occupies."""

    num_cpus: int = 0
    memory_bytes: int = 0
    gpus: tuple[str, ...] = ()
    num_nodes: int = 0  # exclusive, for a step on several nodes


@dataclass(slots=True)
class Packing:
    """The worker's free resources. Hold `lock` from asking what fits until the share is taken.

    `ends_at`: when the worker loses its host, in seconds since 1970.
    """

    offer: Offer
    gpus: tuple[str, ...] = ()
    ends_at: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    _shares: dict[int, Share] = field(default_factory=dict)

    def claim(
        self, tag_sets: Mapping[str, int], claim: Callable[[int], Claim | None]
    ) -> Claim | None:
        """The largest ready step that fits, claimed and in its share; `claim` asks one tag set."""
        with self.lock:
            keys = {id: key for key, id in tag_sets.items()}
            for tag_set_id in self.in_order(tag_sets):
                claimed = claim(tag_set_id)
                if claimed is not None:
                    self.take(claimed.attempt_id, keys[tag_set_id])
                    return claimed
        return None

    def fits(self, key: str) -> bool:
        """Whether a step of the tag set `key` fits now."""
        need = split_tags(key)[1]
        used = list(self._shares.values())
        has = self.offer
        free = Offer(
            None if has.num_cpus is None else has.num_cpus - sum(share.num_cpus for share in used),
            None
            if has.memory_bytes is None
            else has.memory_bytes - sum(share.memory_bytes for share in used),
            None if has.num_gpus is None else len(self._free_gpus()),
            None
            if has.num_nodes is None
            else has.num_nodes - sum(share.num_nodes for share in used),
            self._left_s(),
        )
        return not free.lacks(_at_least_one(need))

    def could_fit(self, key: str) -> bool:
        """Whether a step of the tag set `key` would fit, in the time left, if nothing else ran."""
        empty = replace(self.offer, runtime_s=self._left_s())
        return not empty.lacks(_at_least_one(split_tags(key)[1]))

    def take(self, attempt_id: int, key: str) -> Share:
        """Occupy what a step of the tag set needs."""
        need = split_tags(key)[1]
        gpus = tuple(self._free_gpus()[: need.num_gpus])
        share = Share(max(need.num_cpus, LEAST_CPUS), need.memory_bytes, gpus, need.num_nodes)
        self._shares[attempt_id] = share
        return share

    def gpus_of(self, attempt_id: int) -> tuple[str, ...]:
        """The attempt's own GPUs."""
        share = self._shares.get(attempt_id)
        return share.gpus if share else ()

    def give_back(self, attempt_id: int) -> None:
        with self.lock:
            self._shares.pop(attempt_id, None)

    def in_order(self, tag_sets: Mapping[str, int]) -> list[int]:
        """Ids of the tag sets whose steps fit now, largest need first."""
        fitting = [key for key in tag_sets if self.fits(key)]
        return [
            tag_sets[key]
            for key in sorted(fitting, key=lambda key: split_tags(key)[1].size, reverse=True)
        ]

    def _left_s(self) -> float | None:
        return None if self.ends_at is None else max(0.0, self.ends_at - time.time())

    def _free_gpus(self) -> list[str]:
        taken = {gpu for share in self._shares.values() for gpu in share.gpus}
        return [gpu for gpu in self.gpus if gpu not in taken]


def _at_least_one(need: Need) -> Need:
    """Every step needs a processor and a node."""
    return replace(need, num_cpus=max(need.num_cpus, LEAST_CPUS), num_nodes=max(need.num_nodes, 1))


def find_gpus(count: int | None) -> tuple[str, ...]:
    """This worker's GPUs: those in its environment, if enough; else the numbers from 0."""
    visible = [
        name.strip()
        for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if name.strip()
    ]
    wanted = len(visible) if count is None else count
    return (
        tuple(visible[:wanted])
        if len(visible) >= wanted
        else tuple(str(number) for number in range(wanted))
    )


def gpu_env(gpus: tuple[str, ...], *, is_local: bool) -> dict[str, str]:
    """Names the step's own GPUs. In a container there are no others, and their numbers start at
    0."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus if is_local else map(str, range(len(gpus))))}
