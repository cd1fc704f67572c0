"""The shell scripts that jobs become."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_TAG = re.compile(r"\{[{%#]")
_END_RAW = re.compile(r"\{%-?\s*endraw\s*-?%\}")


def literal(text: str) -> str:
    """`text` as a template that says exactly that: specifications hold no templates of ours."""
    if not _TAG.search(text):
        return text
    if not _END_RAW.search(text):
        return f"{{% raw %}}{text}{{% endraw %}}"
    return re.sub(r"\{(?=[{%#])", "{% raw %}{{% endraw %}", text)


def script_of(
    name: str, command: str, invocation_script: str | None, outputs: Sequence[str]
) -> str:
    """What bash runs for a job: its command behind its invocation script, then a look for the files
    it promises."""
    line = f"{invocation_script} {command}" if invocation_script else command
    if not outputs:
        return line
    said = f"Job {name} completed successfully but expected output files are missing:"
    return "\n".join(
        (
            f"bash -c {shlex.quote(line)} || exit",
            "missing=",
            f"for file in {' '.join(shlex.quote(path) for path in outputs)}; do",
            '  [ -e "$file" ] || missing="$missing $file"',
            "done",
            f'[ -z "$missing" ] || {{ echo {shlex.quote(said)}"$missing" >&2; exit 1; }}',
        )
    )


def with_recovery(script: str, recovery_script: str, exit_code: int) -> str:
    """`script` behind what its failure handler runs first; that this fails is only worth a
    warning."""
    warning = "Warning: the recovery script ended with exit code"
    return (
        f"TORC_RETURN_CODE={exit_code} bash -c {shlex.quote(recovery_script)} || "
        f'echo "{warning} $?; the job runs all the same" >&2\n{script}'
    )
