"""Services of language models, as the operator describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# Those of the library that one address and one key describe, and `fake`, whose answers stand in a
# file.
PROVIDER_TYPES = (
    "anthropic", "openai", "openai_compatible", "azure", "bedrock", "cerebras", "cohere",
    "deepseek", "fake", "gemini", "groq", "huggingface", "mistral", "moonshotai", "ollama",
    "openrouter", "together", "xai",
)  # fmt: skip
KEYLESS = frozenset({"fake", "ollama", "openai_compatible", "bedrock"})


@dataclass(frozen=True, slots=True)
class Price:
    """In US dollars per million tokens; without `cached`, cached ones cost as much as others."""

    input: float
    output: float
    cached: float | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """`api_key` may be `${NAME}`, a variable of the environment."""

    type: str
    api_key: str | None = field(default=None, repr=False)
    api_key_file: Path | None = None
    api_endpoint: str | None = None
    api_version: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    max_retries: int = 3
    concurrency: int | None = None  # requests at a time, of one process
    requests_per_minute: int | None = None  # of one process
    request_timeout_s: float = 120.0
    price: Price | None = None
    answers: Path | None = None  # of type fake
