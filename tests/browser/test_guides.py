"""Pictures of the guides: all used, none large."""

from __future__ import annotations

import re

from tests.browser.screenshots import FOR_GUIDES, IMAGES, LARGEST, ROOT

SHOWN = re.compile(r"!\[([^\]]+)\]\((?:\.\./)?img/([\w-]+\.png)\)")


def test_each_picture_is_shown_in_words_too_made_by_the_command_and_light() -> None:
    made = {path.name: path.stat().st_size for path in IMAGES.iterdir()}
    shown: dict[str, str] = {}
    for guide in (ROOT / "docs").rglob("*.md"):
        shown |= {name: words for words, name in SHOWN.findall(guide.read_text())}
    assert set(made) == set(shown) <= set(FOR_GUIDES.values())
    assert max(made.values()) <= LARGEST
    assert all(len(words) > 10 for words in shown.values())
    for guide in ("approving", "operating"):
        assert len(SHOWN.findall((ROOT / "docs" / "guides" / f"{guide}.md").read_text())) >= 2, (
            guide
        )
