"""What an operator says of a provider of language models, and what its questions become."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.agents.dialogue import Dialogue, Question
from engine.agents.providers import Price, Provider
from engine.errors import PlatformError
from runners.agents.errors import ModelError, Stopped
from runners.agents.keys import key_of
from runners.agents.models import Speaker, _priced
from runners.agents.patience import Patience
from runners.agents.places import Places
from tests.apps.jobs.builders import until
from tests.runners.contract import Stop


class Model:
    """Answers once it may; remembers how long it was given, and how many asked at once."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.name = "m"
        self.given: list[float] = []
        self.most = self._inside = 0
        self.gate = threading.Event()
        if is_open:
            self.gate.set()
        self._lock = threading.Lock()

    def ask(self, question: Question, stop: Any, timeout_s: float) -> Any:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self.given.append(timeout_s)
        self.gate.wait(20)
        with self._lock:
            self._inside -= 1
        return "answer"


class Busy(Model):
    """Asks to be left alone for so long."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__()
        self._retry_after_s = retry_after_s

    def ask(self, question: Question, stop: Any, timeout_s: float) -> Any:
        raise ModelError("slow down", is_transient=True, retry_after_s=self._retry_after_s)


QUESTION = Question("k", Dialogue(1, "talk", "", "hello"))


def test_a_key_comes_from_the_text_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    assert key_of("p", Provider("openai", api_key="plain")) == "plain"
    assert key_of("p", Provider("openai", api_key="${KEY}"), {"KEY": "e"}) == "e"
    assert key_of("p", Provider("openai", api_key_file=tmp_path / "key")) == "from-a-file"
    with pytest.raises(PlatformError, match="no variable KEY"):
        key_of("p", Provider("openai", api_key="${KEY}"), {})
    with pytest.raises(PlatformError, match="No such file"):
        key_of("p", Provider("openai", api_key_file=tmp_path / "none"))


def test_azure_gets_its_address_and_version() -> None:
    provider = Provider(
        "azure", api_key="k", api_endpoint="https://a.example.com", api_version="2026-01-01"
    )
    speaker = Speaker("p", provider, "gpt")
    client: Any = speaker._model.client  # type: ignore[attr-defined]
    assert str(client.base_url).startswith("https://a.example.com")
    assert client._api_version == "2026-01-01"


def test_no_more_ask_at_once_than_the_provider_has_places() -> None:
    model, patience = Model(is_open=False), Patience(retries=0, request_timeout_s=9.0, places=2)
    threads = [
        threading.Thread(target=patience.ask, args=(model, QUESTION, Stop())) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    model.gate.set()
    for thread in threads:
        thread.join(20)
    assert (len(model.given), model.most <= 2) == (6, True)


def test_who_waits_for_a_place_can_be_stopped_and_is_not_kept_beyond_its_time() -> None:
    places, stop = Places(1), Stop()
    seen: list[type[BaseException]] = []

    def wait() -> None:
        with pytest.raises(Stopped), places.held(stop, float("inf")):
            raise AssertionError
        seen.append(Stopped)

    with places.held(Stop(), float("inf")):
        waiting = threading.Thread(target=wait)
        waiting.start()
        stop.set("cancel")
        waiting.join(20)
        assert seen == [Stopped]
        with (
            pytest.raises(ModelError, match="time is over"),
            places.held(Stop(), time.monotonic() + 0.01),
        ):
            raise AssertionError
    with places.held(Stop(), time.monotonic() + 20):
        pass  # neither of them took the place along


def test_whoever_shares_a_provider_that_is_to_be_left_alone_is_told_and_not_kept_in_vain() -> None:
    patience, said = Patience(retries=1, request_timeout_s=9.0), list[str]()
    with pytest.raises(ModelError, match="another try in 3600 s") as first:
        patience.ask(Busy(3600), QUESTION, Stop(), left_s=20)
    began, other = time.monotonic(), Model()
    wanted = "left alone for 3[56]..[.]. s more, which would be after the step's time-out"
    with pytest.raises(ModelError, match=wanted) as second:
        patience.ask(other, QUESTION, Stop(), left_s=20)
    assert time.monotonic() - began < 10 and not other.given
    assert first.value.is_transient and second.value.is_transient

    patience = Patience(retries=1, request_timeout_s=9.0)
    with pytest.raises(ModelError):
        patience.ask(Busy(3), QUESTION, Stop(), left_s=1)
    assert patience.ask(other, QUESTION, Stop(), left_s=20, say=said.append) == "answer"
    assert len(said) == 1 and said[0].startswith("the provider asked to be left alone for")


def test_places_are_given_in_the_order_of_coming() -> None:
    places, order = Places(1), list[int]()

    def ask(number: int) -> None:
        with places.held(Stop(), float("inf")):
            order.append(number)

    with places.held(Stop(), float("inf")):
        threads = []
        for number in range(20):
            threads.append(threading.Thread(target=ask, args=(number,)))
            threads[-1].start()
            until(lambda so_far=number: len(places._waiting) == so_far + 1)
    for thread in threads:
        thread.join(20)
    assert order == list(range(20))


def test_a_minute_has_room_for_so_many_requests() -> None:
    places, stop = Places(per_minute=1), Stop()
    with places.held(Stop(), float("inf")):
        pass

    with (
        pytest.raises(ModelError, match="time is over"),
        places.held(Stop(), time.monotonic() + 30),
    ):
        raise AssertionError
    stop.set("cancel")
    with pytest.raises(Stopped), places.held(stop, float("inf")):
        raise AssertionError


def test_a_request_gets_its_own_time_or_what_is_left() -> None:
    model, patience = Model(), Patience(retries=0, request_timeout_s=9.0)
    patience.ask(model, QUESTION, Stop())
    patience.ask(model, QUESTION, Stop(), left_s=4.0)
    assert model.given[0] == 9.0 and model.given[1] <= 4.0
    with pytest.raises(ModelError, match="time is over"):
        patience.ask(model, QUESTION, Stop(), left_s=0.0)


def test_cached_tokens_have_a_price_of_their_own() -> None:
    class Usage:
        input_tokens, output_tokens, cache_read_tokens = 1_000_000, 1_000_000, 500_000

    assert _priced(Price(2.0, 8.0, 0.5), Usage) == 1.0 + 0.25 + 8.0
    assert _priced(Price(2.0, 8.0), Usage) == 2.0 + 8.0
