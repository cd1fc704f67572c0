"""Says which files came into a folder. A file that is safe with Stroem moves on to `taken`.

Whoever writes a file gives it its last name when it is complete.
"""

import json
import os
import sys
import time
from pathlib import Path

folder = Path(os.environ["DROP_FOLDER"])
taken = folder / "taken"
taken.mkdir(parents=True, exist_ok=True)
while True:
    for path in sorted(folder.glob("*.csv")):
        about = path.stat()
        # the same file again, after a crash between the answer and the move, is the same event
        known = {"id": f"{path.name} {about.st_mtime_ns}", "reply": True}
        event = {"name": path.name, "size": about.st_size, "_event": known}
        print("OUTPUT:", json.dumps(event), flush=True)
        answer = sys.stdin.readline()
        if not answer.startswith("ok "):
            sys.exit(f"{path.name} was not taken: {answer.strip() or 'no answer'}")
        path.rename(taken / path.name)
    time.sleep(0.5)
