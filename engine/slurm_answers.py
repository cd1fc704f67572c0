"""Reads what Slurm's programs answer. Sites wrap them, put banners around the answer, and run
several clusters."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SENTENCE = re.compile(r"Submitted batch job (\d+)(?: on cluster (\S+))?")
_NUMBER = re.compile(r"(\d+)(?:;(\S+))?")
# The controller, its network or munge is away; the same call may succeed later.
_AWAY = re.compile(
    r"unable to (?:contact|connect)|connect(?:ion)? (?:failure|refused|timed out|reset)|timed out"
    r"|communication (?:connection|shutdown|failure)|not connected|zero bytes were transmitted"
    r"|temporarily un(?:able|available)|in standby|no route to host|network is unreachable"
    r"|name or service not known|failure in name resolution|munge|authentication"
    r"|job credential",
    re.IGNORECASE,
)
# The request itself is wrong: it is refused again however often it is made.
_WRONG = re.compile(
    r"\binvalid (?!job)|unrecogni[sz]ed option|invalid option|than permitted|not permitted"
    r"|permission denied|configuration is not available|can ?not be satisfied"
    r"|requested time limit",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Numbered:
    """A Slurm job: its number, and its cluster if Slurm's programs do not ask that one anyway."""

    number: str
    cluster: str = ""


def read_number(answer: str) -> Numbered | None:
    """The job that sbatch names in its `answer`: in its sentence, or alone on the last such
    line."""
    sentences = _SENTENCE.findall(answer)
    if sentences:
        return Numbered(*sentences[-1])
    lines = (_NUMBER.fullmatch(line.strip()) for line in reversed(answer.splitlines()))
    found = next((line for line in lines if line), None)
    return Numbered(found[1], found[2] or "") if found else None


def is_away(said: str) -> bool:
    """Whether Slurm did not answer, rather than refuse."""
    return _AWAY.search(said) is not None


def is_wrong(said: str) -> bool:
    """Whether Slurm refuses a request that it will never grant."""
    return not is_away(said) and _WRONG.search(said) is not None
