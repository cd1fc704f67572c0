"""A passkey of software: what a browser and its device would answer to our challenges."""

from __future__ import annotations

import hashlib
import json
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES256

ASKED, MADE, PRESENT = 0x04, 0x40, 0x01


def plain(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def raw(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Device:
    """One passkey. `asks`: whether it asks for a PIN or a finger."""

    origin: str
    asks: bool = True
    id: bytes = b"a passkey of tests"
    user: str = ""
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def _data(self, options: dict[str, Any], flags: int, more: bytes = b"") -> bytes:
        rp = options.get("rpId") or options["rp"]["id"]
        flags |= PRESENT | (ASKED if self.asks else 0)
        return hashlib.sha256(rp.encode()).digest() + struct.pack(">BI", flags, 0) + more

    def _client(self, kind: str, options: dict[str, Any]) -> bytes:
        told = {"type": kind, "challenge": options["challenge"], "origin": self.origin}
        return json.dumps(told).encode()

    def _answer(self, **response: str) -> str:
        return json.dumps(
            {
                "id": plain(self.id), "rawId": plain(self.id), "type": "public-key",
                "clientExtensionResults": {}, "response": response,
            }
        )  # fmt: skip

    def make(self, told: dict[str, Any]) -> str:
        options = told["publicKey"]
        self.user = options["user"]["id"]
        public = cbor.encode(ES256.from_cryptography_key(self.key.public_key()))
        made = bytes(16) + struct.pack(">H", len(self.id)) + self.id + public
        data = self._data(options, MADE, made)
        attested = cbor.encode({"fmt": "none", "attStmt": {}, "authData": data})
        client = self._client("webauthn.create", options)
        return self._answer(clientDataJSON=plain(client), attestationObject=plain(attested))

    def sign(self, told: dict[str, Any], *, user: str = "") -> str:
        options = told["publicKey"]
        data, client = self._data(options, 0), self._client("webauthn.get", options)
        signed = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer(
            clientDataJSON=plain(client),
            authenticatorData=plain(data),
            signature=plain(signed),
            userHandle=user or self.user,
        )
