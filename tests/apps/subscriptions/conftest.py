from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apps.subscriptions.receiver import Receiver, allow, receiving


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """On this machine, where the settings allow it."""
    allow(monkeypatch)
    with receiving() as found:
        yield found
