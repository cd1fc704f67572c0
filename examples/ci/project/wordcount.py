"""Counts words, the way a person would: letters and digits belong to a word, everything else parts
them."""

import re
import sys
from collections import Counter


def count(text: str) -> Counter[str]:
    """How often each word occurs; capitals do not matter."""
    return Counter(re.findall(r"\w+", text.lower()))


def main() -> None:
    for word, times in count(sys.stdin.read()).most_common(10):
        print(f"{times:6} {word}")


if __name__ == "__main__":
    main()
