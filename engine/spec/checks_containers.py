"""Rules about steps that run in containers: users, and words that no program in an image can start
with."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from engine import templating
from engine.orders import HELPER
from engine.plain import shorten
from engine.spec.checks_templates import is_template, not_rendered
from engine.spec.draft import Draft
from engine.spec.model import Problem
from engine.spec.problems import error, warning

_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
# As engines and registries read it: host, path, tag, digest. A host may have capitals.
_IMAGE = re.compile(
    rf"(?:(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9_+.-]*:[0-9a-fA-F]{32,})?"
)
_SECRETS = frozenset({"secret", "secrets"})
_ADVICE = "the program gets it as it is written; use 'cmd', or pass the value through 'env'"


def check_users(draft: Draft) -> Iterator[Problem]:
    """A cluster knows users by number only."""
    for name, subject, action in draft.actions():
        is_pod = action.type == "pod" or (action.type == "script" and action.runner == "pod")
        if is_pod and action.user and not action.user.replace(":", "", 1).isdecimal():
            message = (
                f"{subject} 'user' must be numbers for a pod, such as \"1000:1000\", not"
                f" '{shorten(action.user)}'"
            )
            yield error(draft.in_action(name, "user"), "user", message)


def check_images(draft: Draft) -> Iterator[Problem]:
    """A name that no registry has: what templates make of it, a job shows."""
    for name, subject, action in draft.actions():
        image = action.image or ""
        if not image.strip() or "{" in image or _IMAGE.fullmatch(image):
            continue
        why = "write it in lower case" if _IMAGE.fullmatch(image.lower()) else "there is none"
        message = f"{subject} image '{shorten(image)}' is not the name of an image: {why}"
        yield error(draft.in_action(name, "image"), "image", message)


def check_helper(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        if action.type in ("docker", "pod") and HELPER in (action.cmd or ""):
            message = (
                f"{subject} calls '{HELPER}', which images do not have; print STATE: and OUTPUT:"
                " lines, and write files to ARTIFACTS_DIR"
            )
            yield warning(draft.in_action(name, "cmd"), "helper", message)


def check_plain_words(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        for key in ("entrypoint", "command"):
            for at, text in enumerate(getattr(action, key) or ()):
                is_told = templating.references(text).names <= _SECRETS
                if is_template(text) and not is_told:
                    place = draft.in_action(name, key, at)
                    yield not_rendered(f"{subject} {key}", text, place, _ADVICE)


def check_words(draft: Draft) -> Iterator[Problem]:
    """Beside an `entrypoint`, `cmd` is its arguments; what templates make of it, a job shows."""
    for name, subject, action in draft.actions():
        if not action.cmd or not action.entrypoint or action.command or "{" in action.cmd:
            continue
        try:
            shlex.split(action.cmd)
        except ValueError as problem:
            wrong = f"cannot be split into arguments for 'entrypoint': {problem}"
            message = f"{subject} cmd '{shorten(action.cmd)}' {wrong}"
            yield error(draft.in_action(name, "cmd"), "cmd", message)


CHECKS = (check_users, check_images, check_helper, check_plain_words, check_words)
