"""What `doctor` says about workspaces and settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.workspaces import services
from console import health

UNBUILT = """
tasks: {main: {flow: {one: {type: script, script: touch $ARTIFACTS_DIR/a}}}}
"""


@pytest.mark.django_db
def test_what_is_not_built_is_a_warning_of_the_workspace_and_of_doctor(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(UNBUILT)
    found = services.import_folder("shop", tmp_path)
    told = "this version does not carry out artifacts (ARTIFACTS_DIR): main/one"
    assert [problem["message"] for problem in found.problems] == [told]
    assert health.warning("workspaces", f"shop: {told}") in health._workspaces()


def test_settings_without_effect_are_named(settings: Any) -> None:
    settings.STROEM = replace(settings.STROEM, libraries={"common": None})
    told = [finding.sentence for finding in health._configuration() if finding.level == "warning"]
    assert told == ["the setting `libraries` has no effect: this version does not use it yet"]
