"""What a template reads and what it prints into a text, found without rendering it."""

from __future__ import annotations

from dataclasses import dataclass

Path = tuple[str, ...]

# filters whose result cannot carry code: numbers, and text of harmless characters
INERT_FILTERS = frozenset(
    {"int", "float", "length", "wordcount", "round", "abs", "filesizeformat", "slugify"}
)
_QUOTING = {
    "shell": frozenset({"sh"}),
    "python": frozenset({"py", "json", "json_encode"}),
    "javascript": frozenset({"json", "json_encode"}),
    "typescript": frozenset({"json", "json_encode"}),
    "go": frozenset({"json", "json_encode"}),
}
QUOTING_FILTERS = frozenset[str]().union(*_QUOTING.values())


@dataclass(frozen=True, slots=True)
class References:
    """`names` are root names, `paths` the dotted ways from them; `is_open` when anything may be
    read.

    A step is named as templates write it, see `context_name`. What a loop or `set` names is no
    reference.
    """

    names: frozenset[str] = frozenset()
    paths: frozenset[Path] = frozenset()
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Splice:
    """One `{{ ... }}` that writes values into the text around it.

    `sources` are the paths whose text may show up, also by way of `set` and loops; numbers and
    truth values do not count. `filter` is the last filter of the expression. `neighbours` are the
    characters before and behind the tag, `enclosed` what it stands in if the text is a shell
    script, see `shell_quotes`.
    """

    text: str
    line: int
    sources: frozenset[Path]
    filter: str | None
    neighbours: str
    enclosed: str = ""

    @property
    def quotes(self) -> bool:
        return self.filter in QUOTING_FILTERS

    def is_quoted_for(self, language: str) -> bool:
        """Whether the last filter quotes for this language, and nothing around the tag undoes
        it."""
        if self.filter not in _QUOTING.get(language, frozenset()):
            return False
        return not self.enclosed if language == "shell" else not set(self.neighbours) & set("'\"`")


def context_name(step_name: str) -> str:
    """The name under which templates find a step: `say-hello` is `say_hello`."""
    return step_name.replace("-", "_")
