"""Decrypts SOPS files (`*.sops.yaml`) with the program `sops`; the clear text stays in memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from apps.workspaces.errors import SourceError

_NAME = re.compile(r"(?:^|/)[^./][^/]*\.sops\.ya?ml$")
_SOPS_S = 30
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "GNUPGHOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
)
_PASSED_ON_FAMILIES = ("SOPS_", "AWS_", "VAULT_", "AZURE_", "GOOGLE_", "CLOUDSDK_")


def is_encrypted(path: str) -> bool:
    """Whether the name of the file says that SOPS encrypted it."""
    return _NAME.search(path) is not None


def decrypt(content: bytes) -> bytes:
    """The clear YAML. Raises SourceError in one sentence; messages of sops never contain clear
    text."""
    program = shutil.which("sops")
    if program is None:
        raise SourceError(
            "the file is encrypted with SOPS, and there is no program `sops` on this server;"
            " install it"
        )
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_FAMILIES)
    }
    try:
        done = subprocess.run(
            [program, "--decrypt", "--input-type", "yaml", "--output-type", "yaml", "/dev/stdin"],
            input=content,
            capture_output=True,
            timeout=_SOPS_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SourceError(f"sops did not answer within {_SOPS_S} s") from None
    except OSError as error:
        raise SourceError(f"sops cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SourceError(
            f"sops cannot decrypt the file (exit {done.returncode}): {(reason or ['?'])[-1][:300]}"
        )
    return done.stdout
