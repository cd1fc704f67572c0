"""What the template language itself passes in silence."""

from __future__ import annotations

from tests.architecture.house import ROOT


def test_comments_end_on_their_line() -> None:
    """Django prints others on the page."""
    templates = sorted(ROOT.glob("apps/*/templates/**/*.*"))
    assert len(templates) > 50
    open_ended = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in templates
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.count("{#") != line.count("#}")
    ]
    assert open_ended == []
