"""Decrypts SOPS files (`*.sops.yaml`) with the program `sops`; the clear text stays in memory."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from django.conf import settings

from apps.workspaces import programs
from apps.workspaces.allowances import check_keys
from apps.workspaces.errors import LimitError, SourceError
from apps.workspaces.stores import SOPS_KEYS
from engine.spec.reader import read


def decrypt(content: bytes, workspace: str) -> bytes:
    """The clear YAML. Raises SourceError in one sentence; messages of sops never contain clear
    text."""
    kinds = check_keys(_metadata(content), workspace)
    program = shutil.which("sops")
    if program is None:
        raise SourceError(
            "the file is encrypted with SOPS, and there is no program `sops` on this server;"
            " install it"
        )
    variables = {prefix for kind in kinds for prefix in SOPS_KEYS[kind][1]}
    words = ("--decrypt", "--input-type", "yaml", "--output-type", "yaml", "/dev/stdin")
    seconds = settings.STROEM.secrets.timeout_s
    try:
        done = programs.run(program, *words, given=content, variables=variables, seconds=seconds)
    except subprocess.TimeoutExpired:
        raise LimitError(f"sops did not answer within {seconds:g} s") from None
    except OSError as error:
        raise SourceError(f"sops cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SourceError(
            f"sops cannot decrypt the file (exit {done.returncode}): {(reason or ['?'])[-1][:300]}"
        )
    return done.stdout


def _metadata(content: bytes) -> Any:
    """What the file says about its keys, as SOPS would read it: a file that two readers could read
    in two ways is refused."""
    document = read("", content)
    if document.problems or document.root is None:
        why = document.problems[0].message if document.problems else "it is empty"
        raise SourceError(f"the file cannot be checked before it is decrypted: {why}")
    plain = document.root.plain()
    return plain.get("sops") if isinstance(plain, dict) else None
