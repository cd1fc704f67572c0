"""Every module of the engine can be the first one that somebody imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("engine", "engine/spec", "engine/spec/torc", "engine/templating")
EACH_ALONE = """
import importlib, sys
for name in sys.argv[1:]:
    for known in [one for one in sys.modules if one.split(".")[0] == "engine"]:
        del sys.modules[known]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: {error}")
"""


def test_no_module_needs_another_one_to_be_imported_before_it() -> None:
    files = sorted(file for folder in FOLDERS for file in (ROOT / folder).glob("*.py"))
    names = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in files
    ]
    assert "engine.spec.inputs" in names
    command = [sys.executable, "-c", EACH_ALONE, *names]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout == ""
