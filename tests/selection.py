"""Which tests are long: `.ci/run` runs them, and `make test` leaves them to `make test-long`.

Most carry the marker themselves. Two kinds get it here: what needs a program that not every machine
has, so that `make test` skips nothing on a new one, and of the cases of a table that is marked
`sample(n)` all but every n-th.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

NEEDS = "needs "  # so begins what `pyproject.toml` says about the marker of a program


def programs(config: pytest.Config) -> frozenset[str]:
    """The markers of what not every machine has."""
    described = (line.partition(": ") for line in config.getini("markers"))
    return frozenset(name for name, _, text in described if text.startswith(NEEDS))


def mark_long(items: Sequence[pytest.Item], needed: frozenset[str]) -> None:
    """The first case of a table always stays, also where somebody names a single one."""
    cases: Counter[str] = Counter()
    for item in items:
        sample = item.get_closest_marker("sample")
        if needed & {mark.name for mark in item.iter_markers()}:
            item.add_marker("long")
        elif sample is not None:
            table, bracket, _ = item.nodeid.partition("[")
            if not bracket:
                raise pytest.UsageError(f"{table} is no table: mark it `long`, not `sample`")
            if cases[table] % sample.args[0]:
                item.add_marker("long")
            cases[table] += 1
