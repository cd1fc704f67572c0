"""Lists the CSV files of this workspace. The working directory of a step is the workspace's
root."""

import json
from pathlib import Path

files = sorted(path.as_posix() for path in Path("data").glob("*.csv"))
print(f"{len(files)} files: {', '.join(files)}")
print("OUTPUT: " + json.dumps({"files": files}))
