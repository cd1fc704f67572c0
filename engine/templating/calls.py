"""How a filter, a test or a function sees its arguments: by name, checked, with a sentence when
they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.errors import TemplateError
from engine.templating.budget import Budget, LimitReached
from engine.templating.values import I64_MAX, I64_MIN, is_array, is_number, kind, path_parts

_REQUIRED: Any = object()
MAX_PATH = 1_000
MAX_PATH_PARTS = 20


@dataclass(frozen=True, slots=True)
class Call:
    """One use of a filter, test or function. Unknown arguments are ignored, as Tera does."""

    what: str  # e.g. "filter 'join'"
    arguments: Mapping[str, Any]
    budget: Budget
    now: datetime | None = None

    def text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TemplateError(f"{self.what} works on a string, not on {kind(value)}")
        self.budget.spend_text(len(value))
        return value

    def array(self, value: Any) -> list[Any]:
        if not is_array(value):
            raise TemplateError(f"{self.what} works on an array, not on {kind(value)}")
        self.budget.spend(1 + len(value))
        return list(value)

    def number(self, value: Any) -> float:
        if not is_number(value):
            raise TemplateError(f"{self.what} works on a number, not on {kind(value)}")
        return value  # type: ignore[no-any-return]  # int or float, by the check above

    def argument(self, name: str, default: Any = _REQUIRED) -> Any:
        value = self.arguments.get(name, default)
        if value is _REQUIRED:
            raise TemplateError(f"{self.what} needs the argument '{name}'")
        return value

    def text_argument(self, name: str, default: str = _REQUIRED) -> str:
        value = self.argument(name, default)
        if not isinstance(value, str):
            raise TemplateError(
                f"{self.what}: the argument '{name}' must be a string, not {kind(value)}"
            )
        return value

    def path_argument(self, name: str, default: str = _REQUIRED) -> tuple[str, ...]:
        """The parts of a dotted path such as `author.name`."""
        path = self.text_argument(name, default)
        parts = path_parts(path) if len(path) <= MAX_PATH else ()
        if len(path) > MAX_PATH or len(parts) > MAX_PATH_PARTS:
            raise LimitReached(f"{self.what}: the argument '{name}' is too long a path")
        self.budget.spend(len(parts))
        return parts

    def whole_argument(
        self, name: str, default: int = _REQUIRED, low: int = I64_MIN, high: int = I64_MAX
    ) -> int:
        value = self.argument(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise TemplateError(
                f"{self.what}: the argument '{name}' must be a whole number, not {kind(value)}"
            )
        if not low <= value <= high:
            raise TemplateError(f"{self.what}: the argument '{name}' must be from {low} to {high}")
        return value

    def number_argument(self, name: str, default: float = _REQUIRED) -> float:
        value = self.argument(name, default)
        if not is_number(value):
            raise TemplateError(
                f"{self.what}: the argument '{name}' must be a number, not {kind(value)}"
            )
        return value  # type: ignore[no-any-return]  # int or float, by the check above

    def flag_argument(self, name: str, default: bool = False) -> bool:
        value = self.argument(name, default)
        if not isinstance(value, bool):
            raise TemplateError(
                f"{self.what}: the argument '{name}' must be true or false, not {kind(value)}"
            )
        return value


Filter = Callable[[Call, Any], Any]
