"""What the suites of several runners share."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, outside pytest's own, which nobody else may."""
    folder = Path(tempfile.mkdtemp(prefix="stroem-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def wheels(open_folder, monkeypatch) -> Path:
    """A folder from which `stroem-greet` installs, and no index beside it."""
    folder = open_folder / "wheels"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        info = f"stroem_greet-{version}.dist-info"
        with zipfile.ZipFile(folder / f"stroem_greet-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("stroem_greet.py", f"VERSION = {version!r}\n")
            wheel.writestr(
                f"{info}/METADATA",
                f"Metadata-Version: 2.1\nName: stroem-greet\nVersion: {version}\n",
            )
            wheel.writestr(
                f"{info}/WHEEL",
                "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(f"{info}/RECORD", "")
    for name, value in {
        "UV_FIND_LINKS": str(folder),
        "UV_OFFLINE": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_NO_INDEX": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return folder
