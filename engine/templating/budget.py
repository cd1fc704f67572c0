"""How much one rendering may use. Counted in steps, so the verdict is the same on a slow and on a
fast machine."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import TemplateError


@dataclass(frozen=True, slots=True)
class RenderLimits:
    """Ceilings of one rendering. A step is roughly a microsecond of work: one operation, 32
    characters, one item."""

    template_bytes: int = 65_536
    output_chars: int = 1_000_000
    value_chars: int = 1_000_000  # the longest text that an operation may make
    loop_rounds: int = 100_000  # over all loops together
    steps: int = 600_000
    # the price of all templates in one value, a second of work; one alone may cost more
    tags: int = 150_000


DEFAULT = RenderLimits()
TAG_PRICE = 20  # what a tag costs to be understood, besides its letters
MAX_DEPTH = 100  # of nested lists and maps that are walked
MAX_NUMBER_BITS = 4_096  # of integers that are printed


class LimitReached(TemplateError):
    """A template asks for more than its limits: unlike other failures, nothing in the template can
    swallow it."""


class Budget:
    """What is left of the limits. Every operation of the runtime draws on it."""

    __slots__ = ("limits", "output_left", "rounds_left", "steps_left", "tags_left")

    def __init__(self, limits: RenderLimits) -> None:
        self.limits = limits
        self.steps_left = limits.steps
        self.rounds_left = limits.loop_rounds
        self.output_left = limits.output_chars
        self.tags_left = limits.tags

    def begin(self, price: int) -> None:
        """One more text of a value begins: what it may write is its own, the work is that of the
        value together."""
        if self.tags_left < 0:
            raise LimitReached(
                "there are too many templates in one value; make the value in a script"
            )
        self.tags_left -= price
        self.output_left = self.limits.output_chars

    def spend(self, steps: int) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise LimitReached("the template does too much work; do this in a script")

    def spend_text(self, chars: int) -> None:
        self.spend(1 + (chars >> 5))

    def start_round(self) -> None:
        self.rounds_left -= 1
        if self.rounds_left < 0:
            raise LimitReached(
                f"the template's loops run more than {self.limits.loop_rounds} times; do this in a"
                " script"
            )
        self.spend(4)

    def emit(self, chars: int) -> None:
        self.output_left -= chars
        if self.output_left < 0:
            raise LimitReached(
                f"the rendered text is longer than {self.limits.output_chars} characters"
            )

    def allow_text(self, chars: int) -> None:
        """Called before a text of this length is made."""
        if chars > self.limits.value_chars:
            raise LimitReached(
                f"the template makes a text longer than {self.limits.value_chars} characters"
            )
        self.spend_text(chars)
