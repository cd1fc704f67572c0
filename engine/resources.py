"""A step's resource needs, as numbers and as tags in its tag set.

Steps with equal needs share a queue: a packing worker claims only from tag sets that fit into its
free resources, so a claim costs the same as without resources.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import AuthorError

_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)\s*(?:([kmgtpKMGTP])(i?)([bB]?)|[bB])?")
_ISO = re.compile(
    r"P(?=.)(?:([0-9]{1,9})W)?(?:([0-9]{1,9})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})(?:\.[0-9]{1,9})?S)?)?"
)
_OURS = re.compile(r"(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,12})s?)?")
_WORDS = {
    "cpus": "num_cpus", "mem": "memory_bytes", "gpus": "num_gpus", "nodes": "num_nodes",
    "secs": "runtime_s",
}  # fmt: skip
_PREFIX = "need:"  # reserved: no worker's tag may begin with it


@dataclass(frozen=True, slots=True)
class Need:
    """CPUs, bytes, GPUs, whole nodes and seconds that a step requests; 0 is no request."""

    num_cpus: int = 0
    memory_bytes: int = 0
    num_gpus: int = 0
    num_nodes: int = 0  # one is no request either
    runtime_s: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        """The need as tags, `need:cpus:4`."""
        return tuple(
            f"{_PREFIX}{word}:{value}"
            for word, name in _WORDS.items()
            if (value := getattr(self, name))
        )

    @property
    def size(self) -> tuple[int, ...]:
        """The packing order: most nodes and GPUs first, then the longest, then the most memory."""
        return self.num_nodes, self.num_gpus, self.runtime_s, self.memory_bytes, self.num_cpus


NOTHING = Need()


def need_of(
    resources: Mapping[str, Any], *, is_script: bool = True, is_allocated: bool = False
) -> Need:
    """The need in an action's `resources:`. A container's `memory` is a limit that its engine
    enforces.

    `is_allocated`: only allocations run the step. Only they end at a given time or have several
    nodes.
    """
    memory = resources.get("memory") if is_script or "num_cpus" in resources else None
    num_nodes, runtime = int(resources.get("num_nodes") or 0), resources.get("runtime")
    return Need(
        int(resources.get("num_cpus") or 0),
        read_memory(str(memory)) if memory else 0,
        int(resources.get("num_gpus") or 0),
        num_nodes if is_allocated and num_nodes > 1 else 0,
        read_runtime(str(runtime)) if is_allocated and runtime else 0,
    )


def read_memory(text: str) -> int:
    """Bytes. `512Mi` and `8g` are powers of 1024, `4G` is a power of 1000. Raises AuthorError."""
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        raise AuthorError(
            f"'{text[:30]}' is not an amount of memory; write for example 512Mi or 2Gi"
        )
    number, unit, binary, _ = found.groups()
    if not unit:
        return int(float(number))
    base = 1024 if binary or (unit.islower() and len(text.strip()) == len(number) + 1) else 1000
    return int(float(number) * base ** " kmgtp".index(unit.lower()))


def read_runtime(text: str) -> int:
    """Seconds from ISO 8601 (`PT1H`, `P0DT1M`) or our own durations (`1h30m`, `90`). Raises
    AuthorError."""
    found = _ISO.fullmatch(text.strip())
    if found is not None:
        weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return (((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + seconds
    ours = _OURS.fullmatch(text.strip())
    if ours is None or not text.strip():
        raise AuthorError(f"'{text[:30]}' is not a duration; write for example PT1H or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in ours.groups())
    return hours * 3600 + minutes * 60 + seconds


def split_tags(key: str) -> tuple[frozenset[str], Need]:
    """The tags that a worker must have for the tag set `key`, and the need of its steps."""
    tags, need = set(), {}
    for word in key.split("+"):
        if word.startswith(_PREFIX):
            name, _, value = word.removeprefix(_PREFIX).partition(":")
            need[_WORDS[name]] = int(value)
        elif word:
            tags.add(word)
    return frozenset(tags), Need(**need)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a host offers to steps. None: the dimension does not count. `runtime_s`: until the host
    goes away."""

    num_cpus: float | None = None
    memory_bytes: int | None = None
    num_gpus: int | None = None
    num_nodes: int | None = None
    runtime_s: float | None = None

    @classmethod
    def of(cls, offers: Mapping[str, Any], now: float = 0.0) -> Offer:
        """The `offers` that a worker reported; `ends_at` and `now` are seconds since 1970."""
        ends_at = offers.get("ends_at")
        return cls(
            offers.get("num_cpus"),
            offers.get("memory_bytes"),
            offers.get("num_gpus"),
            offers.get("num_nodes"),
            None if ends_at is None else max(0.0, ends_at - now),
        )

    def lacks(self, need: Need) -> tuple[str, ...]:
        """The dimensions (`num_cpus`, …) in which the host is too small for the need."""
        found = []
        for name in _SHOWN:
            has = getattr(self, name)
            if has is not None and getattr(need, name) > has:
                found.append(name)
        return tuple(found)


_SHOWN = {
    "num_cpus": "processors", "memory_bytes": "memory", "num_gpus": "GPUs", "num_nodes": "nodes",
    "runtime_s": "time",
}  # fmt: skip


def too_small(need: Need, offers: Iterable[Offer]) -> str | None:
    """One sentence with both numbers when no offer covers the need; None when one does or there are
    no offers."""
    known = list(offers)
    lacking = [offer.lacks(need) for offer in known]
    if not known or () in lacking:
        return None
    for name in _SHOWN:
        if all(name in one for one in lacking):
            most = max(getattr(offer, name) for offer in known)
            return (
                f"The step asks for {_amount(name, getattr(need, name))}, and no worker or"
                f" allocation that may run it offers more than {_amount(name, most)}"
            )
    words = [
        _amount(name, getattr(need, name)) for name in _SHOWN if any(name in one for one in lacking)
    ]
    return (
        f"The step asks for {', '.join(words)}: some worker or allocation offers each of these, but"
        " none offers all of them"
    )


def _amount(name: str, value: float) -> str:
    if name == "runtime_s":
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02} of time"
    if name != "memory_bytes":
        return f"{value:g} {_SHOWN[name] if value != 1 else _SHOWN[name].removesuffix('s')}"
    return f"{show_bytes(value)} of memory"


def show_bytes(count: float) -> str:
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= size:
            shown = count / size
            return f"{shown:.4g} {unit}" if shown < 1000 else f"{shown:.0f} {unit}"
    return f"{count:g} bytes"
