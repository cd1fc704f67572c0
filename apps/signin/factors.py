"""Second factors: codes of an authenticator app, recovery codes, passkeys."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret, validate_totp_code
from allauth.mfa.utils import decrypt, encrypt
from allauth.mfa.webauthn.internal import auth as webauthn
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest

from apps.accounts import alerts, sign_ins
from apps.accounts.errors import SignInRefused, TooMany
from apps.accounts.models import User
from apps.accounts.throttles import count, spend, throttle_key
from apps.audit.services import note
from engine.errors import InputError

CODES_A_MINUTE, CODES_A_DAY = 5, 100
DAY_S, WINDOW_S = 24 * 3600, 60
CODE_LIVES_S = 90  # the code of now, of the half minute before, and of the one after
LONGEST_CODE, LONGEST_NAME, LONGEST_CREDENTIAL, MOST_PASSKEYS = 20, 60, 20_000, 20
WRONG_CODE = "This code is wrong, or was used already"
NO_PASSKEY = "This passkey is not known here, or was not asked for"
SETUP = "signin_totp"
TYPES = Authenticator.Type
TOLD = {
    "add": ("A way to sign in was added", "Added to your account: {}."),
    "remove": ("A way to sign in was removed", "Taken from your account: {}."),
    "renew": ("You have new recovery codes", "Replaced: {}. The old ones are void."),
}


def check_code(user: User, code: str) -> str:
    """What kind of code it is: "code" of an app, or "recovery code". Each is good once. Raises
    SignInRefused, and TooMany: guesses at codes of one account are few, right or wrong."""
    code = "".join(code.split()).replace("-", "")[:LONGEST_CODE]
    account = str(user.pk)
    try:
        spend(throttle_key("code", account), limit=CODES_A_MINUTE, window_s=WINDOW_S)
        spend(throttle_key("code-day", account), limit=CODES_A_DAY, window_s=DAY_S)
    except TooMany:
        sign_ins.note_throttled(user.email, "code", account)
        raise
    if code.isascii() and code.isdigit():
        for row in Authenticator.objects.filter(user=user):
            if row.type == TYPES.TOTP and _is_code(row, code):
                row.record_usage()
                return "code"
            if row.type == TYPES.RECOVERY_CODES and RecoveryCodes(row).validate_code(code):
                return "recovery code"
    sign_ins.note_refused(user.email, "a wrong code of the second factor")
    raise SignInRefused(WRONG_CODE)


def _is_code(row: Any, code: str) -> bool:
    """The library remembers used codes in the memory of one process; we do in the database."""
    if not validate_totp_code(decrypt(row.data["secret"]), code):
        return False
    used = throttle_key("code-used", f"{row.pk} {code}")
    return count(used, limit=1, window_s=CODE_LIVES_S) is None


@dataclass(frozen=True, slots=True)
class Setup:
    """What an authenticator app needs to know."""

    secret: str
    picture: str  # the address of an image


def setup(request: HttpRequest, user: User) -> Setup:
    """A new secret, kept in the session until a code shows that an app has it."""
    kept = request.session.setdefault(SETUP, encrypt(generate_totp_secret()))
    secret, adapter = decrypt(kept), get_adapter()
    drawn = adapter.build_totp_svg(adapter.build_totp_url(user, secret))
    encoded = base64.b64encode(drawn.encode()).decode()
    return Setup(secret, f"data:image/svg+xml;base64,{encoded}")


def add_app(request: HttpRequest, user: User, code: str) -> None:
    """Raises InputError and TooMany."""
    kept = request.session.get(SETUP)
    secret = decrypt(kept) if kept else ""
    spend(throttle_key("code", str(user.pk)), limit=CODES_A_MINUTE, window_s=WINDOW_S)
    code = "".join(code.split())[:LONGEST_CODE]
    if not secret or not validate_totp_code(secret, code):
        raise InputError({"code": "This is not the code that the app shows now"})
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        if Authenticator.objects.filter(user=user, type=TYPES.TOTP).exists():
            raise InputError({"code": "This account has an authenticator app already"})
        row = TOTP.activate(user, secret).instance
        count(throttle_key("code-used", f"{row.pk} {code}"), limit=1, window_s=CODE_LIVES_S)
        RecoveryCodes.activate(user)
        _note("add", user, "authenticator app")
    del request.session[SETUP]


def begin_passkey(user: User) -> dict[str, Any]:
    """What the browser needs to make a passkey: one that names its person, and asks for them."""
    options: dict[str, Any] = webauthn.begin_registration(user, True)
    return options


def add_passkey(user: User, name: str, text: str) -> None:
    """Raises InputError."""
    name = name.replace("\x00", "").strip()[:LONGEST_NAME] or "Passkey"
    try:
        credential = _credential(text)
        webauthn.parse_registration_response(credential)
        made = webauthn.complete_registration(credential)
        if not made.is_user_verified():
            raise InputError({"name": "The device did not ask who you are (PIN, fingerprint)"})
        if Authenticator.objects.filter(user=user, type=TYPES.WEBAUTHN).count() >= MOST_PASSKEYS:
            raise InputError({"name": f"An account has at most {MOST_PASSKEYS} passkeys"})
    except (ValidationError, ValueError, KeyError, AttributeError, TypeError):
        raise InputError({"name": NO_PASSKEY}) from None
    with transaction.atomic():
        webauthn.WebAuthn.add(user, name, credential)
        RecoveryCodes.activate(user)
        _note("add", user, f"passkey {alerts.quoted(name)}")


def begin_sign_in() -> dict[str, Any]:
    """A challenge for any passkey of this server; it is good once, in its session."""
    options: dict[str, Any] = webauthn.begin_authentication(None)
    return options


def owner_of_passkey(text: str) -> User:
    """Whose passkey answered the challenge of this session. Raises SignInRefused."""
    try:
        credential = _credential(text)
        answer = webauthn.parse_authentication_response(credential)
        user: User = webauthn.extract_user_from_response(credential)
        state = webauthn.get_state() or {}
        row = webauthn.complete_authentication(user, credential)
        is_verified = answer.response.authenticator_data.is_user_verified()
    except (ValidationError, ValueError, KeyError, AttributeError, TypeError):
        sign_ins.note_refused("unknown account", "a wrong passkey")
        raise SignInRefused(NO_PASSKEY) from None
    challenge = throttle_key("challenge", str(state.get("challenge")))
    is_first = count(challenge, limit=1, window_s=DAY_S) is None
    if not (user.is_active and is_verified and is_first):
        sign_ins.note_refused(user.email, "a passkey that may not be used, or not again")
        raise SignInRefused(NO_PASSKEY)
    row.record_usage()
    return user


def _credential(text: str) -> dict[str, Any]:
    found = json.loads(text[:LONGEST_CREDENTIAL]) if text else None
    if not isinstance(found, dict):
        raise KeyError
    return found


def recovery_codes(user: User) -> list[str]:
    """Those that are left."""
    row = Authenticator.objects.filter(user=user, type=TYPES.RECOVERY_CODES).first()
    found: list[str] = [] if row is None else RecoveryCodes(row).get_unused_codes()
    return found


@transaction.atomic
def renew_recovery_codes(user: User) -> None:
    """Raises InputError without a factor that they would stand in for."""
    if not _factors(user):
        raise InputError({"codes": "Without a second factor, there is nothing to recover"})
    Authenticator.objects.filter(user=user, type=TYPES.RECOVERY_CODES).delete()
    RecoveryCodes.activate(user)
    _note("renew", user, "recovery codes")


@transaction.atomic
def remove(user: User, pk: int) -> None:
    """Take one factor away; with the last one, the recovery codes go."""
    row = Authenticator.objects.filter(user=user, pk=pk).first()
    if row is None or not row.delete()[0]:
        return
    _note("remove", user, _named(row))
    if not _factors(user):
        Authenticator.objects.filter(user=user).delete()


@transaction.atomic
def remove_all(user: User) -> int:
    """Returns how many there were, without the recovery codes."""
    gone = int(_factors(user).delete()[0])
    Authenticator.objects.filter(user=user).delete()
    _note("remove", user, "all second factors")
    return gone


def _named(row: Any) -> str:
    if row.type == TYPES.WEBAUTHN:
        return f"passkey {alerts.quoted(row)}"
    return "authenticator app" if row.type == TYPES.TOTP else "recovery codes"


def _note(verb: str, user: User, what: str) -> None:
    """In the log, and to the person."""
    note(f"second-factor.{verb}", user.email, detail=what)
    subject, sentence = TOLD[verb]
    alerts.tell(user, subject, sentence.format(what))


def of(user: User) -> list[Any]:
    return list(_factors(user).order_by("created_at"))


def _factors(user: User) -> Any:
    return Authenticator.objects.filter(user=user).exclude(type=TYPES.RECOVERY_CODES)
