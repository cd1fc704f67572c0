"""What a secret looks like in a file: the forms of well-known issuers, and random text that is given
to a name such as `password`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

FORMS = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----\s+\S{20,}",
    "AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "Slack token": r"\bxox[abposr]-[A-Za-z0-9-]{20,}",
    "Google key": r"\bAIza[A-Za-z0-9_-]{35}\b",
    "Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{20,}",
    "model provider's key": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}",
    "npm or PyPI token": r"\b(?:npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,})",
    "age key": r"\bAGE-SECRET-KEY-1[A-Z0-9]{50,}",
    "API key of Stroem": r"\bstrm_[0-9a-f]{64}\b",
    "signed token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
    "password in an address": r"\b[a-z][a-z0-9+]*://[^\s/:@{}$<>'\"]+:[^\s/@{}$<>'\"]{16,}@",
}
_FORMS = {name: re.compile(form) for name, form in FORMS.items()}
_GIVEN = re.compile(
    r"(?i)(?:password|passwd|secret|token|api_?key|private_?key|credential)[\w-]*['\"]?\s*[:=]\s*"
    r"['\"]?([A-Za-z0-9+/_=.-]{24,})['\"]?"
)
LEAST_BITS = 4.2  # for a letter: names and sentences have fewer
FEWEST_DIGITS = 3


def find_secrets(text: str) -> Iterator[tuple[int, str]]:
    """(line, what it looks like) of each."""
    for name, form in _FORMS.items():
        for found in form.finditer(text):
            yield text.count("\n", 0, found.start()) + 1, name
    for found in _GIVEN.finditer(text):
        if _is_random(found[1]):
            yield text.count("\n", 0, found.start()) + 1, "random text with a telling name"


def _is_random(text: str) -> bool:
    counts = Counter(text)
    bits = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return bits >= LEAST_BITS and sum(letter.isdigit() for letter in text) >= FEWEST_DIGITS
