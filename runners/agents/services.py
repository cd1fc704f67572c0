"""All providers of this installation, and their models: set up once, shared by all
conversations."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from engine.agents.dialogue import Answer, Dialogue, Question
from engine.agents.providers import Provider
from engine.errors import PlatformError
from engine.spec.problems import did_you_mean
from runners.agents import fake
from runners.agents.base import Model
from runners.agents.patience import Patience

TRY_S = 30.0


class Never:
    """A stop signal that is never set."""

    reason: str | None = None

    def wait(self, timeout_s: float) -> bool:
        time.sleep(timeout_s)
        return False

    def on_set(self, callback: Callable[[], None]) -> None:
        """It never is."""


class Services:
    """Finds models by the names that authors write. Thread-safe."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self._lock = threading.Lock()
        self._models: dict[tuple[str, str], Model] = {}
        self._patience = {
            name: Patience(
                retries=provider.max_retries,
                request_timeout_s=provider.request_timeout_s,
                places=provider.concurrency,
                per_minute=provider.requests_per_minute,
            )
            for name, provider in providers.items()
        }

    def provider(self, name: str) -> Provider:
        """Raises PlatformError for an unknown one."""
        found = self._providers.get(name)
        if found is None:
            known = ", ".join(sorted(self._providers)) or "none"
            raise PlatformError(
                f"There is no provider '{name}' in `agents.providers`"
                f"{did_you_mean(name, self._providers)}; there are: {known}"
            )
        return found

    def try_out(self, name: str) -> Answer:
        """One small question to the provider's own model. Raises PlatformError."""
        dialogue = Dialogue(0, "doctor", "", "Answer with the word OK.")
        question = Question("stroem-doctor", dialogue, max_tokens=16)
        model = self.model(name, None)
        return model.ask(question, Never(), min(TRY_S, self.provider(name).request_timeout_s))

    def patience(self, name: str) -> Patience:
        return self._patience[name]

    def model(self, name: str, asked: str | None) -> Model:
        """A model of a provider: the asked one, or the provider's own. Raises PlatformError."""
        provider = self.provider(name)
        model_name = asked or provider.model
        if provider.type == "fake":
            assert provider.answers is not None
            return fake.load(name, provider.answers)
        if model_name is None:
            raise PlatformError(f"The step names no `model`, and neither does provider '{name}'")
        with self._lock:
            known = self._models.get((name, model_name))
            if known is None:
                from runners.agents.models import Speaker

                known = Speaker(name, provider, model_name)
                self._models[name, model_name] = known
            return known
