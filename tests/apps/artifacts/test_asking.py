"""`stroem-step` in pods: the server answers, and the worker reads in the end what was set."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from apps.artifacts import ledger as artifacts
from apps.artifacts.models import PodStep
from apps.artifacts.questions import MOST_BYTES
from apps.jobs import ledger
from engine.errors import PlatformError
from engine.orders import StepOutcome, Verdict
from engine.output import STATE
from tests.apps.artifacts.builders import shelve
from tests.apps.artifacts.test_parcels import Pod, directory, pod
from workers.artifacts import Patience
from workers.attempts import Attempt
from workers.pipes import PodHelper

__all__ = ["directory", "pod"]
pytestmark = pytest.mark.django_db(transaction=True)
DONE = StepOutcome(Verdict.SUCCEEDED, 0, output={"n": 1}, has_output=True)


def ask(pod: Pod, *words: str, body: bytes | None = None) -> tuple[int, str]:
    """Exit code and text, as the command reads them."""
    asked = "".join(f"{word}\0" for word in (str(len(words)), *words)).encode()
    answer = pod.ask("post", asked if body is None else body, path="/ask")
    assert answer.status_code == 200, answer.body
    head, _, text = answer.body.partition(b"\n")
    code, size = head.split()
    assert int(size) == len(text)
    return int(code), text.decode()


def settle(pod: Pod, folder: Path) -> StepOutcome:
    attempt = Attempt(pod.claim, 0.0)
    questions = artifacts.Questions(pod.claim, ledger, artifacts)
    helper = PodHelper(
        folder, attempt, questions, Patience(artifacts, attempt), artifacts, is_needed=True
    )
    assert (helper.folder.path / "stroem-step").read_text().startswith("#!/bin/sh")
    return helper.settle(DONE)


def test_what_a_pod_sets_is_read_in_the_end(pod: Pod, tmp_path: Path) -> None:
    artifacts.may_ask(pod.claim, ["hush"], emits=False)
    assert ask(pod, "state get", "cursor") == (3, "stroem-step: the state has no key 'cursor'\n")
    assert ask(pod, "state get", "cursor", "--default", "0") == (0, "0\n")
    assert ask(pod, "state set", "cursor", "7", "--json", "--if-version", "0") == (0, "")
    assert ask(pod, "state get", "cursor") == (0, "7\n")
    assert ask(pod, "output set", "total", "hush") == (0, "")
    assert b"hush" not in bytes(PodStep.objects.get().sealed or b"")
    outcome = settle(pod, tmp_path)
    assert outcome.output == {"n": 1, "total": "hush"}
    assert (outcome.states, outcome.bases) == ({STATE: {"cursor": 7}}, {STATE: {"cursor": 0}})


def test_a_step_that_has_set_nothing_ends_as_it_did(pod: Pod, tmp_path: Path) -> None:
    artifacts.may_ask(pod.claim, [], emits=False)
    assert ask(pod, "state version") == (0, "0\n")
    assert settle(pod, tmp_path) == DONE


def test_what_is_not_known_any_more_fails_the_step(pod: Pod, tmp_path: Path) -> None:
    assert ask(pod, "state set", "a", "1")[0] == 69  # no worker has said that it may
    with pytest.raises(PlatformError):
        artifacts.noted(pod.claim)
    outcome = settle(pod, tmp_path)
    assert outcome.verdict is Verdict.FAILED and "is not known any more" in str(outcome.error)


def test_none_of_several_at_once_is_lost(pod: Pod) -> None:
    artifacts.may_ask(pod.claim, [], emits=False)

    def set_one(number: int) -> None:
        try:
            assert ask(pod, "state set", f"k{number}", "1") == (0, "")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=set_one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    noted = artifacts.noted(pod.claim)
    assert noted is not None
    assert sorted(noted["states"][STATE][0]) == [f"k{number}" for number in range(6)]


def test_files_of_earlier_steps_are_given(pod: Pod) -> None:
    shelve(pod.job, "build", {"a.txt": b"one"})
    pod.hand.finish(pod.claim)
    pod.begin("use")
    artifacts.may_ask(pod.claim, [], emits=False)
    assert ask(pod, "artifact get", "build", "a.txt") == (0, "one")
    assert ask(pod, "artifact get", "build", "b.txt")[0] == 3


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"", 64), (b"2\0state get\0", 64), (b"1\0\xff\0", 65), (b"1\0fly\0", 64), (b"0\0", 64),
     (b"x" * (MOST_BYTES + 5), 65)],
)  # fmt: skip
def test_nonsense_is_told_by_its_exit_code(pod: Pod, body: bytes, code: int) -> None:
    artifacts.may_ask(pod.claim, [], emits=False)
    assert ask(pod, body=body)[0] == code


def test_only_the_pass_of_a_living_attempt_asks(pod: Pod) -> None:
    artifacts.may_ask(pod.claim, [], emits=False)
    assert pod.ask("post", b"", path="/ask", token="strp_1.1.x").status_code == 401
    assert pod.ask("get", path="/ask").status_code == 405
    pod.hand.finish(pod.claim)
    assert pod.ask("post", b"", path="/ask").status_code == 410


def test_of_events_the_output_is_not_set(pod: Pod) -> None:
    artifacts.may_ask(pod.claim, [], emits=True)
    told: Any = ask(pod, "output set", "a", "1")
    assert told[0] == 65 and "the output of this step is events" in told[1]
