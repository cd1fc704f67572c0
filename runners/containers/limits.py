"""A step's resource requests for a container engine as numbers: thousandths of a CPU, bytes."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from engine.errors import AuthorError
from engine.orders import Resources

_UNITS = {
    "": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4, "p": 1000**5,
    "ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4, "pi": 1024**5,
}  # fmt: skip
_KILLED = 137  # a shell's exit code for a command that got SIGKILL
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]{0,3})")


def read_cpu_millis(resources: Resources) -> int | None:
    """Thousandths of a CPU: `cpu` ("500m", "0.5", "2") wins over `num_cpus`."""
    if resources.cpu is None:
        return None if resources.num_cpus is None else max(1, round(resources.num_cpus * 1000))
    text = resources.cpu.strip()
    try:
        millis = Decimal(text[:-1]) if text.endswith("m") else Decimal(text) * 1000
    except InvalidOperation:
        millis = Decimal(0)
    if not millis.is_finite() or millis < 1:
        raise AuthorError(
            f"resources.cpu {text!r} is not an amount of processors; write for example 500m or 0.5"
        )
    return int(millis)


def read_memory_bytes(resources: Resources) -> int | None:
    """Bytes: `memory` ("512Mi", "1G", "300000") wins over `memory_bytes`. A lower-case unit of one
    letter (Docker's 512m) means powers of 1024, as in Docker."""
    if resources.memory is None:
        return resources.memory_bytes
    text = resources.memory.strip()
    found = _QUANTITY.fullmatch(text)
    unit = found[2] if found else "?"
    factor = _UNITS.get(unit.lower().removesuffix("b") if len(unit) > 1 else unit.lower())
    if found is None or factor is None:
        raise AuthorError(
            f"resources.memory {text!r} is not an amount of memory; write for example 512Mi or 2Gi"
        )
    if len(unit) == 1 and unit.islower() and unit != "b":
        factor = _UNITS[f"{unit}i"]
    return int(Decimal(found[1]) * factor)


def explain_kill(exit_code: int, resources: Resources, *, is_known: bool) -> str:
    """The message for a step that was, or most likely was, killed for its memory; else empty.

    `is_known`: the engine says so. Docker sometimes misses a child of the first process, Kubernetes
    always does.
    """
    limit = resources.memory or resources.memory_bytes
    if is_known and exit_code != 0:
        told = "The step ran out of memory"
    elif limit and exit_code == _KILLED:
        told = "The step was killed, most likely because it ran out of memory"
    else:
        return ""
    return f"{told}{f' (limit: {limit})' if limit else ''}; raise resources.memory"
