"""Packs the project into one runnable file in the step's own directory, tries it, hands on its name
and checksum."""

import hashlib
import json
import os
import subprocess
import sys
import zipapp
from pathlib import Path

version = os.environ["STROEM_INPUT_VERSION"]
target = Path(os.environ["TMPDIR"]) / f"wordcount-{version}.pyz"
zipapp.create_archive(
    "project", target, main="wordcount:main", filter=lambda path: path.name == "wordcount.py"
)
answer = subprocess.run(
    [sys.executable, str(target)],
    input="to be or not to be",
    capture_output=True,
    text=True,
    check=True,
)
print(answer.stdout)

data = target.read_bytes()
print(f"{target.name}: {len(data)} bytes")
print("OUTPUT: " + json.dumps({"file": target.name, "sha256": hashlib.sha256(data).hexdigest()}))
