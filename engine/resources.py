"""What a step needs of a host, as numbers, and as words in the name of its tag set.

Steps that need the same stand in one queue: a worker that packs steps asks only for tag sets that fit into what it
has free, and the claim itself stays as cheap as without resources.
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
_WORDS = {"cpus": "num_cpus", "mem": "memory_bytes", "gpus": "num_gpus"}
_PREFIX = "need:"  # no worker's tag may begin so


@dataclass(frozen=True, slots=True)
class Need:
    """Processors, bytes and graphics processors that a step asks for; 0 is nothing in particular."""

    num_cpus: int = 0
    memory_bytes: int = 0
    num_gpus: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        """The need as tags, `need:cpus:4`."""
        return tuple(f"{_PREFIX}{word}:{value}" for word, name in _WORDS.items() if (value := getattr(self, name)))

    @property
    def size(self) -> tuple[int, int, int]:
        """The order in which steps are packed: many graphics processors first, then much memory."""
        return self.num_gpus, self.memory_bytes, self.num_cpus


NOTHING = Need()


def need_of(resources: Mapping[str, Any], *, is_script: bool = True) -> Need:
    """The need that `resources:` of an action says. `memory` of a container is a limit, which its engine enforces."""
    memory = resources.get("memory") if is_script or "num_cpus" in resources else None
    return Need(
        int(resources.get("num_cpus") or 0),
        read_memory(str(memory)) if memory else 0,
        int(resources.get("num_gpus") or 0),
    )


def read_memory(text: str) -> int:
    """Bytes. `512Mi` and `8g` are powers of 1024, `4G` is a power of 1000. Raises AuthorError."""
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        raise AuthorError(f"'{text[:30]}' is no amount of memory; write for example 512Mi or 2Gi")
    number, unit, binary, _ = found.groups()
    if not unit:
        return int(float(number))
    base = 1024 if binary or (unit.islower() and len(text.strip()) == len(number) + 1) else 1000
    return int(float(number) * base ** " kmgtp".index(unit.lower()))


def read_runtime(text: str) -> int:
    """Seconds out of ISO 8601 (`PT1H`, `P0DT1M`) or our own durations (`1h30m`, `90`). Raises AuthorError."""
    found = _ISO.fullmatch(text.strip())
    if found is not None:
        weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return (((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + seconds
    ours = _OURS.fullmatch(text.strip())
    if ours is None or not text.strip():
        raise AuthorError(f"'{text[:30]}' is no duration; write for example PT1H or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in ours.groups())
    return hours * 3600 + minutes * 60 + seconds


def split_tags(key: str) -> tuple[frozenset[str], Need]:
    """The tags that a worker must have for the tag set `key`, and what its steps need."""
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
    """What a host has for steps. None in a dimension: it does not count there."""

    num_cpus: float | None = None
    memory_bytes: int | None = None
    num_gpus: int | None = None

    @classmethod
    def of(cls, offers: Mapping[str, Any]) -> Offer:
        return cls(offers.get("num_cpus"), offers.get("memory_bytes"), offers.get("num_gpus"))

    def lacks(self, need: Need) -> str | None:
        """The dimension (`num_cpus`, …) in which the host is too small for the need; None when it fits."""
        for name in ("num_cpus", "memory_bytes", "num_gpus"):
            has = getattr(self, name)
            if has is not None and getattr(need, name) > has:
                return name
        return None


_SHOWN = {"num_cpus": "processors", "memory_bytes": "memory", "num_gpus": "GPUs"}


def too_small(need: Need, offers: Iterable[Offer]) -> str | None:
    """One sentence with both numbers when no offer holds the need; None when one does, or there is none to ask."""
    known = list(offers)
    lacking = [offer.lacks(need) for offer in known]
    if not known or None in lacking:
        return None
    name = next(name for name in _SHOWN if name in lacking)
    asked, most = getattr(need, name), max(getattr(offer, name) or 0 for offer in known)
    return (
        f"The step asks for {_amount(name, asked)}, and no worker or allocation that may run it offers more than "
        f"{_amount(name, most)}"
    )


def _amount(name: str, value: float) -> str:
    if name != "memory_bytes":
        return f"{value:g} {_SHOWN[name]}"
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value >= size:
            return f"{value / size:g} {unit} of memory"
    return f"{value:g} bytes of memory"
