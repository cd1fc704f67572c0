"""An authority with certificates for an engine and its client, as `docker:dind` makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_authority(folder: Path, name: str = "authority") -> None:
    """`ca.pem` and `ca-key.pem`."""
    folder.mkdir(parents=True, exist_ok=True)
    _openssl(
        folder,
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
        *("-keyout", "ca-key.pem", "-out", "ca.pem"),
    )


def make_certificates(folder: Path) -> None:
    """Beside `ca.pem`: `server/` and `client/`, each with `ca.pem`, `cert.pem` and `key.pem`."""
    make_authority(folder)
    for role, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        home = folder / role
        home.mkdir()
        (home / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
        (home / "extensions").write_text(
            f"subjectAltName = IP:127.0.0.1,DNS:localhost\nextendedKeyUsage = {usage}\n"
        )
        _openssl(
            home,
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={role}"),
            *("-keyout", "key.pem", "-out", "request.pem"),
        )
        _openssl(
            home,
            *("x509", "-req", "-days", "2", "-in", "request.pem", "-extfile", "extensions"),
            *("-CA", "../ca.pem", "-CAkey", "../ca-key.pem", "-CAcreateserial", "-out", "cert.pem"),
        )


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
