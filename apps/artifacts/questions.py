"""What `stroem-step` may ask, and the answers: state, artifacts of earlier steps, the output.
Workers answer it, and for pods the server.

What a step sets counts as its STATE: and OUTPUT: lines do: with its successful end.
"""

from __future__ import annotations

import json
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any, NoReturn, Protocol, TypeVar

from django.db import InterfaceError, OperationalError

from apps.artifacts.errors import StorageAway
from apps.artifacts.values import Taken
from engine.errors import StroemError
from engine.orders import HELPER, StepOutcome, Verdict
from engine.output import GLOBAL_STATE, STATE, parse
from engine.state import MOST_VALUE_BYTES, Seen

T = TypeVar("T")
MISSING, CONFLICT, USAGE, INVALID, UNAVAILABLE = 3, 4, 64, 65, 69
PAUSE_S = 0.5
MOST_BYTES = 2_000_000  # of one question
OUTAGES = (OperationalError, InterfaceError, StorageAway)
_LONGEST_KEY = 200


class Refusal(Exception):
    """One sentence, and the exit code of the command."""

    def __init__(self, code: int, sentence: str) -> None:
        self.code = code
        super().__init__(sentence)


class Away(Refusal):
    """The database or the storage does not answer: the question may be asked again."""


class States(Protocol):
    """Says what a step sees. `claim` is whatever the caller knows it by."""

    def state_of(self, claim: Any) -> tuple[Seen, Seen]: ...

    def released(self) -> None: ...


class Files(Protocol):
    """Gives artifacts of earlier steps."""

    def taken(self, claim: Any, steps: Sequence[str]) -> list[Taken]: ...

    def open_taken(self, file: Taken) -> IO[bytes]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """`stream`: bytes of a file, `size` in all; the reader closes it."""

    code: int = 0
    text: bytes = b""
    stream: IO[bytes] | None = None
    stream_size: int = 0
    is_program: bool = False

    @property
    def head(self) -> bytes:
        """What the command reads before the bytes."""
        return f"{self.code} {self.size}{' x' if self.is_program else ''}\n".encode()

    @property
    def size(self) -> int:
        return len(self.text) + self.stream_size


class _Words(ArgumentParser):
    """The words of one question; errors are answers."""

    def __init__(self, *positional: str, **optional: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        for name in positional:
            self.add_argument(name.removesuffix("?"), nargs="?" if name.endswith("?") else None)
        for name, kind in optional.items():
            flag = f"--{name.replace('_', '-')}"
            if kind is bool:
                self.add_argument(
                    flag, action="store_true", dest="is_global" if name == "global" else name
                )
            else:
                self.add_argument(flag, type=kind)

    def error(self, message: str) -> NoReturn:
        raise Refusal(USAGE, f"{message}; `{HELPER} help` shows how to use it")


@dataclass(slots=True)
class _Own:
    """What the step has set of one state, and the versions it named."""

    values: dict[str, Any] = field(default_factory=dict)
    bases: dict[str, int] = field(default_factory=dict)


class Questions:
    """Of one attempt. `masks`: what its log hides. `emits`: its OUTPUT: lines are events."""

    def __init__(
        self,
        claim: Any,
        ledger: States,
        artifacts: Files,
        *,
        masks: Sequence[str] = (),
        emits: bool = False,
    ) -> None:
        self._claim = claim
        self._ledger = ledger
        self._artifacts = artifacts
        self._masks = frozenset(masks)
        self._emits = emits
        self._states = {STATE: _Own(), GLOBAL_STATE: _Own()}
        self._output: dict[str, Any] = {}
        self._pause = threading.Event()

    @property
    def noted(self) -> dict[str, Any]:
        """What the step has set, as JSON."""
        states = {prefix: [own.values, own.bases] for prefix, own in self._states.items()}
        return {"states": states, "output": self._output}

    def recall(self, noted: Mapping[str, Any]) -> None:
        """Go on where another process has noted this."""
        for prefix, (values, bases) in noted["states"].items():
            self._states[prefix] = _Own(values, bases)
        self._output = noted["output"]

    def answer(self, words: list[str], has_ended: Callable[[], bool]) -> Answer:
        """Raises Refusal."""
        verb, rest = words[0] if words else "", words[1:]
        match verb:
            case "state get":
                return self._get(_Words("key?", default=str, **_GLOBAL).parse_args(rest), has_ended)
            case "state version":
                given = _Words(**_GLOBAL).parse_args(rest)
                return _line(str(self._seen(given, has_ended).version))
            case "state set":
                key, value, flags = _split(rest)
                wanted = _Words(json=bool, if_version=_version, **_GLOBAL).parse_args(flags)
                self._set(key, value, wanted, has_ended)
            case "output set":
                key, value, flags = _split(rest)
                self._put(key, value, _Words(json=bool).parse_args(flags))
            case "artifact get":
                step, name = _Words("step", "name").parse_args(["--", *rest]).__dict__.values()
                return self._file(step, name, has_ended)
            case _:
                raise Refusal(USAGE, f"there is no command '{verb[:40]}'")
        return Answer()

    def told(self, outcome: StepOutcome) -> StepOutcome:
        """The outcome with what the step has set, over its lines."""
        if outcome.verdict is not Verdict.SUCCEEDED:
            return outcome
        states: dict[str, Mapping[str, Any]] = dict(outcome.states or {})
        bases = {}
        for prefix, own in self._states.items():
            if own.values:
                states[prefix] = {**states.get(prefix, {}), **own.values}
            if own.bases:
                bases[prefix] = own.bases
        outcome = replace(outcome, states=states or None, bases=bases or None)
        if not self._output:
            return outcome
        before = outcome.output if outcome.has_output else {}
        if not isinstance(before, Mapping):
            text = (
                f"The last OUTPUT: line of the step is no JSON object, so what `{HELPER} output"
                " set` has set cannot be added to it"
            )
            return replace(outcome, verdict=Verdict.FAILED, error=text)
        return replace(outcome, output={**before, **self._output}, has_output=True)

    def _get(self, given: Namespace, has_ended: Callable[[], bool]) -> Answer:
        seen, own = self._seen(given, has_ended), self._states[_prefix(given)].values
        values = {**seen.values, **own}
        if given.key is None:
            return _line(_written(values))
        if given.key in values:
            return _line(_written(values[given.key]))
        if given.default is not None:
            return _line(given.default)
        raise Refusal(MISSING, f"the state has no key '{given.key[:40]}'")

    def _seen(self, given: Namespace, has_ended: Callable[[], bool]) -> Seen:
        """The state as it is now. Raises Refusal where the log of this step could not hide it."""
        both = self._patiently(lambda: self._ledger.state_of(self._claim), has_ended)
        seen = both[1 if given.is_global else 0]
        if not self._masks.issuperset(seen.hidden):
            raise Refusal(
                UNAVAILABLE,
                "the state has got a secret value since this step began, which its log could not"
                " hide; run the step again",
            )
        return seen

    def _set(self, key: str, text: str, given: Namespace, has_ended: Callable[[], bool]) -> None:
        prefix = _prefix(given)
        own, value = self._states[prefix], _value(text, given)
        if given.if_version is not None:
            seen = self._seen(given, has_ended)
            written = seen.written.get(key, 0)
            if written > given.if_version:
                raise Refusal(
                    CONFLICT,
                    f"key '{key[:40]}' was written with version {written}, after version"
                    f" {given.if_version}",
                )
            if given.if_version > seen.version:
                raise Refusal(
                    USAGE, f"there is no version {given.if_version}; the newest is {seen.version}"
                )
        _refuse_much({**own.values, key: value}, MOST_VALUE_BYTES)
        own.values[key] = value
        own.bases.pop(key, None)
        if given.if_version is not None:
            own.bases[key] = given.if_version

    def _put(self, key: str, text: str, given: Namespace) -> None:
        if self._emits:
            raise Refusal(INVALID, "the output of this step is events: print OUTPUT: lines")
        value = _value(text, given)
        _refuse_much({**self._output, key: value}, MOST_VALUE_BYTES)
        self._output[key] = value

    def _file(self, step: str, name: str, has_ended: Callable[[], bool]) -> Answer:
        found = self._patiently(lambda: self._artifacts.taken(self._claim, [step]), has_ended)
        for file in found:
            if file.name == name and file.step_name == step:
                stream = self._patiently(lambda: self._artifacts.open_taken(file), has_ended)  # noqa: B023  (called at once)
                return Answer(stream=stream, stream_size=file.size, is_program=file.is_program)
        raise Refusal(MISSING, f"step '{step[:60]}' has left no artifact '{name[:100]}'")

    def _patiently(self, call: Callable[[], T], has_ended: Callable[[], bool]) -> T:
        """Its answer, once the database and the storage give one."""
        while True:
            try:
                return call()
            except OUTAGES:
                if has_ended():
                    raise Away(UNAVAILABLE, "the step ends") from None
                self._pause.wait(PAUSE_S)
            except StroemError as error:
                raise Refusal(UNAVAILABLE, str(error)) from None
            finally:
                self._ledger.released()


def words_of(asked: bytes) -> list[str]:
    """The words of a question: their number, then each, with a NUL behind it. Raises Refusal."""
    if len(asked) > MOST_BYTES:
        raise Refusal(
            INVALID, f"a question may have {MOST_BYTES:,} bytes; write large data to files"
        )
    try:
        count, *words = asked.decode("utf-8").split("\0")
    except UnicodeDecodeError:
        raise Refusal(INVALID, "the words must be text in UTF-8") from None
    if not count.isascii() or not count.isdigit() or len(words) != int(count) + 1:
        raise Refusal(USAGE, "the question did not come whole")
    return words[:-1]


def refused(refusal: Refusal) -> Answer:
    return Answer(refusal.code, f"{HELPER}: {refusal}\n".encode())


_GLOBAL = {"global": bool}


def _prefix(given: Namespace) -> str:
    return GLOBAL_STATE if given.is_global else STATE


def _split(words: list[str]) -> tuple[str, str, list[str]]:
    """Key and value, which may begin with a hyphen, and the flags behind them."""
    if len(words) < 2 or not words[0] or len(words[0]) > _LONGEST_KEY:
        raise Refusal(USAGE, f"a key has 1 to {_LONGEST_KEY} characters, and a value follows it")
    return words[0], words[1], words[2:]


def _value(text: str, given: Namespace) -> Any:
    if not given.json:
        return text
    try:
        return parse(text)
    except ValueError as wrong:
        raise Refusal(INVALID, f"the value is no JSON that can be kept: {wrong}") from None


def _refuse_much(values: Mapping[str, Any], most: int) -> None:
    if len(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")) > most:
        raise Refusal(INVALID, f"all values together may have {most:,} bytes")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _line(text: str) -> Answer:
    return Answer(text=f"{text}\n".encode("utf-8", "replace"))


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(text)
    return int(text)
