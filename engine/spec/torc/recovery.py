"""The script of a retry. Workers need this module, and no other of this package."""

from __future__ import annotations

import shlex


def with_recovery(script: str, recovery_script: str, exit_code: int) -> str:
    """`script` after its failure handler's recovery script, whose failure is only a warning."""
    warning = "Warning: the recovery script ended with exit code"
    return (
        f"TORC_RETURN_CODE={exit_code} bash -c {shlex.quote(recovery_script)} || "
        f'echo "{warning} $?; the job runs nevertheless" >&2\n{script}'
    )
