"""Signatures as their makers publish them, and what of a request may be kept."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from engine.webhooks import (
    NotVerified,
    Received,
    delivery_id,
    is_storable,
    parse,
    verify,
    without_credentials,
)

GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARD_BODY = b'{"test": 2432232314}'
STANDARD = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
NOW = 1_614_265_330.0


def request(body: bytes = b"", query: Any = None, **headers: str) -> Received:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Received("POST", named, query or {}, body)


def stripe(secret: str, body: bytes, at: int = int(NOW)) -> str:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1=00,v1={digest},v0=x"


def test_published_examples_verify() -> None:
    verify(
        "github",
        GITHUB_SECRET,
        request(b"Hello, World!", x_hub_signature_256=GITHUB_SIGNATURE),
        NOW,
    )
    verify("standard", STANDARD_SECRET, Received("POST", STANDARD, {}, STANDARD_BODY), NOW)
    several = STANDARD | {"webhook-signature": "v1a,x v1,bogus " + STANDARD["webhook-signature"]}
    verify("standard", STANDARD_SECRET, Received("POST", several, {}, STANDARD_BODY), NOW)
    verify("gitlab", "tanuki", request(x_gitlab_token="tanuki"), NOW)
    verify("stripe", "whsec_x", request(b"{}", stripe_signature=stripe("whsec_x", b"{}")), NOW)
    verify("bearer", "s3cret", request(authorization="Bearer s3cret"), NOW)
    verify("bearer", "s3cret", request(query={"secret": "s3cret"}), NOW, in_query=True)
    verify("none", None, request(), NOW)


@pytest.mark.parametrize(
    ("kind", "secret", "got"),
    [
        ("bearer", "s", request()),
        ("bearer", "s", request(authorization="Bearer t")),
        ("bearer", "s", request(authorization="Basic s")),
        ("bearer", "s", request(query={"secret": "s"})),
        ("bearer", None, request(authorization="Bearer ")),
        ("bearer", "", request(authorization="Bearer ")),
        ("github", GITHUB_SECRET, request(b"Hello, World?", x_hub_signature_256=GITHUB_SIGNATURE)),
        ("github", GITHUB_SECRET, request(b"Hello, World!")),
        ("github", GITHUB_SECRET, request(b"Hello, World!", authorization=GITHUB_SECRET)),
        ("gitlab", "tanuki", request(x_gitlab_token="tanukj")),
        ("stripe", "w", request(b"{}", stripe_signature=stripe("w", b"{}", int(NOW) - 400))),
        ("stripe", "w", request(b"{}", stripe_signature=stripe("w", b"{}", int(NOW) + 400))),
        ("stripe", "w", request(b"{}", stripe_signature="t=,v1=")),
        ("stripe", "w", request(b"{}", stripe_signature="t=" + "9" * 400 + ",v1=x")),
        ("stripe", "w", request(b"{}", stripe_signature=f"t={NOW:.0f},v0=x")),
        ("standard", STANDARD_SECRET, Received("POST", STANDARD, {}, b"{}")),
        ("standard", "whsec_not base64", Received("POST", STANDARD, {}, STANDARD_BODY)),
        (
            "standard",
            STANDARD_SECRET,
            Received("POST", STANDARD | {"webhook-id": "another"}, {}, STANDARD_BODY),
        ),
    ],
)
def test_whoever_does_not_know_the_secret_is_refused(kind: Any, secret: Any, got: Any) -> None:
    with pytest.raises(NotVerified):
        verify(kind, secret, got, NOW)


def test_a_delivery_has_its_senders_name() -> None:
    assert delivery_id("github", request(x_github_delivery="72d3")) == "72d3"
    assert delivery_id("standard", Received("POST", STANDARD, {}, b"")) == STANDARD["webhook-id"]
    assert delivery_id("stripe", request(b'{"id": "evt_1"}')) == "evt_1"
    assert delivery_id("stripe", request(b"[1]")) == delivery_id("bearer", request()) == ""


def test_a_body_is_json_or_text() -> None:
    assert parse(request(b'{"a": [1]}')) == {"a": [1]}
    assert parse(request(b"a=1")) == "a=1"
    assert parse(request(b"NaN")) == "NaN"
    assert parse(request(b"\xff\x00")) == "\ufffd\ufffd"
    assert parse(request(b"[" * 100_000)) == "[" * 100_000
    assert parse(request()) is None


@pytest.mark.parametrize("body", [b'["a\\u0000"]', b'{"a": {"\\ud800": 1}}', b'"\\udfff"'])
def test_json_that_no_database_holds_is_known(body: bytes) -> None:
    assert not is_storable(parse(request(body)))
    assert is_storable(parse(request(b'{"a": ["b", 1, null, true], "c": "\\ud83d\\ude00"}')))


def test_no_credential_is_kept() -> None:
    kept = without_credentials(
        request(
            query={"secret": "s3cret", "env": "prod", "x": "a s3cret b"},
            authorization="Bearer s3cret", cookie="a=b", x_hub_signature_256="x",
            x_gitlab_token="s3cret", x_custom="s3cret", content_type="application/json",
        ),
        "s3cret",
    )  # fmt: skip
    assert kept.headers == {"content-type": "application/json"}
    assert kept.query == {"env": "prod"}
    assert "s3cret" not in json.dumps([kept.headers, kept.query])
