"""Models through pydantic-ai: one question out, one answer back.

Only its model layer is used: it knows the wire formats. Its own retries are off, as each request
must be seen by the budgets. The library is imported with the first question.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from engine.agents.dialogue import Answer, Question
from engine.agents.providers import Price, Provider
from engine.errors import PlatformError
from runners.agents.errors import ModelError
from runners.agents.keys import key_of
from runners.agents.loop import run
from runners.base import StopSignal

if TYPE_CHECKING:
    from pydantic_ai.models import Model as LibraryModel
    from pydantic_ai.providers import Provider as LibraryProvider

# our name -> the library's, and what it needs beyond our own requirements
_KINDS = {"openai": "openai-chat", "openai_compatible": "openai-chat", "gemini": "google"}


class Speaker:
    """One model of the library. Thread-safe."""

    def __init__(self, provider_name: str, provider: Provider, model_name: str) -> None:
        """Raises PlatformError with a cure when the model cannot be set up."""
        self.name = model_name
        self._price = provider.price
        self._title = f"provider '{provider_name}'"
        self._key = key_of(provider_name, provider)
        self._model = _set_up(self._title, provider, model_name, self._key)

    def ask(self, question: Question, stop: StopSignal, timeout_s: float) -> Answer:
        from runners.agents import wire

        began = time.monotonic()
        try:
            answer = run(wire.request(self._model, question, timeout_s), stop, timeout_s)
        except TimeoutError:
            raise ModelError(
                f"{self._title} did not answer within {timeout_s:.0f} s", is_transient=True
            ) from None
        except ModelError as error:
            raise ModelError(
                f"{self._title}: {self._without_key(str(error))}",
                is_transient=error.is_transient,
                retry_after_s=error.retry_after_s,
            ) from None
        latency_s = time.monotonic() - began
        return wire.finished(answer, question, self.name, latency_s, self._price_of(answer))

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _price_of(self, answer: Any) -> float | None:
        usage = answer.usage
        if self._price is not None:
            return _priced(self._price, usage)
        try:
            return float(answer.cost().total_price)
        except (LookupError, AssertionError, ValueError):
            return None


def _priced(price: Price, usage: Any) -> float:
    cached = min(usage.cache_read_tokens, usage.input_tokens)
    cached_price = price.input if price.cached is None else price.cached
    fresh = usage.input_tokens - cached
    total = fresh * price.input + cached * cached_price + usage.output_tokens * price.output
    return float(total / 1_000_000)


def _set_up(title: str, provider: Provider, model_name: str, key: str | None) -> LibraryModel:
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import infer_model

    kind = _KINDS.get(provider.type, provider.type)
    try:
        return infer_model(f"{kind}:{model_name}", lambda name: _service(name, provider, key))
    except ImportError as error:
        raise PlatformError(
            f"{title} needs a package that is not installed here: {error}"
        ) from None
    except (UserError, TypeError, ValueError) as error:
        raise PlatformError(f"{title} cannot be set up: {error}") from None


def _service(name: str, provider: Provider, key: str | None) -> LibraryProvider[Any]:
    from pydantic_ai.providers import infer_provider_class

    given: dict[str, Any] = {"api_key": key}
    if provider.type == "azure":
        given |= {"azure_endpoint": provider.api_endpoint, "api_version": provider.api_version}
    elif provider.api_endpoint is not None:
        given["base_url"] = provider.api_endpoint
    if provider.type == "anthropic" and provider.api_endpoint is not None:
        return _anthropic(provider.api_endpoint, key)
    return infer_provider_class(name)(**{key: it for key, it in given.items() if it is not None})


def _anthropic(endpoint: str, key: str | None) -> LibraryProvider[Any]:
    from anthropic import AsyncAnthropic
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(api_key=key, base_url=endpoint, max_retries=0)
    return AnthropicProvider(anthropic_client=client)
