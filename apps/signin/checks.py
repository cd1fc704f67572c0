"""Whether a session that began at a provider still holds: the provider is asked again and again."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from enum import Enum

from allauth.socialaccount.models import SocialAccount
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from apps.accounts.models import User
from apps.signin import arrivals, protocol
from apps.signin.errors import NotAdmitted, ProviderAway, ProviderWrong
from apps.signin.models import SignOn
from apps.signin.offered import Named, named
from apps.signin.protocol import Arrival, Tokens
from apps.workspaces.errors import SealError

log = logging.getLogger("stroem.accounts")
ASK_EVERY = timedelta(seconds=45)
STREAMS_ASK_EVERY = timedelta(seconds=25)  # they look every half minute at most
AT_MOST = timedelta(seconds=58)  # older words are worth nothing: a lost group counts in a minute
CLAIM = timedelta(seconds=20)  # longer than a provider may take
PATIENCE_S, LOOK_EVERY_S = 8.0, 0.1


class Standing(Enum):
    GOOD = "good"
    OVER = "over"
    UNKNOWN = "unknown"  # the provider does not answer


def begin(provider: Named, user: User, arrival: Arrival) -> SignOn:
    return SignOn.objects.create(
        user=user,
        provider=provider.name,
        tokens=arrival.tokens.sealed(),
        by_refresh=arrival.by_refresh,
        expires_at=arrival.tokens.expires_at,
        checked_at=timezone.now(),
    )


def standing(pk: int, user_id: int, *, ask_every: timedelta = ASK_EVERY) -> Standing:
    """Asks the provider if its last word is too old. Requests of one session at the same time ask
    once, as refresh tokens are good once: the others wait."""
    row = _row(pk, user_id)
    if row is None:
        return Standing.OVER
    if timezone.now() - row.checked_at < ask_every:
        return Standing.GOOD
    provider = named().get(row.provider)
    if provider is None:
        row.delete()
        return Standing.OVER
    if _claim(row):
        return _asked(provider, row)
    return _waited(row)


def _row(pk: int, user_id: int) -> SignOn | None:
    return SignOn.objects.select_related("user").filter(pk=pk, user_id=user_id).first()


def _claim(row: SignOn) -> bool:
    now = timezone.now()
    free = Q(claimed_at=None) | Q(claimed_at__lt=now - CLAIM)
    unasked = SignOn.objects.filter(free, pk=row.pk, checked_at=row.checked_at)
    return unasked.update(claimed_at=now) == 1


def _waited(row: SignOn) -> Standing:
    """Another request asks."""
    until = time.monotonic() + PATIENCE_S
    found: SignOn | None = row
    while found is not None:
        age = timezone.now() - found.checked_at
        if age < AT_MOST:
            return Standing.GOOD
        if time.monotonic() > until:
            return Standing.UNKNOWN
        _let_go()
        time.sleep(LOOK_EVERY_S)
        found = _row(row.pk, row.user_id)
    return Standing.OVER


def _asked(provider: Named, row: SignOn) -> Standing:
    _let_go()
    try:
        tokens = Tokens.opened(row.tokens, row.expires_at)
        now = timezone.now()
        arrival = protocol.ask_again(provider, tokens, now, by_refresh=row.by_refresh)
        return _followed(provider, row, arrival, now)
    except ProviderAway as error:
        log.warning("the provider %s does not answer: %s", provider.name, error)
        SignOn.objects.filter(pk=row.pk).update(claimed_at=None)
        return Standing.GOOD if timezone.now() - row.checked_at < AT_MOST else Standing.UNKNOWN
    except (NotAdmitted, ProviderWrong, SealError) as error:
        log.info("a session by %s of user %s is over: %s", provider.name, row.user_id, error)
        row.delete()
        return Standing.OVER


def _followed(provider: Named, row: SignOn, arrival: Arrival, now: datetime) -> Standing:
    linked = SocialAccount.objects.filter(
        provider=provider.name, uid=arrival.identity.subject, user_id=row.user_id
    )
    if not linked.exists():
        raise NotAdmitted("This person is no longer linked")
    if (why := arrivals.refusal(provider.settings, arrival.identity)) is not None:
        raise NotAdmitted(why)
    with transaction.atomic():
        arrivals.follow(row.user, provider.settings, arrival.identity)
        SignOn.objects.filter(pk=row.pk).update(
            tokens=arrival.tokens.sealed(),
            expires_at=arrival.tokens.expires_at,
            checked_at=now,
            claimed_at=None,
        )
    epoch = User.objects.values_list("epoch", flat=True).get(pk=row.user_id)
    return Standing.GOOD if epoch == row.user.epoch else Standing.OVER


def _let_go() -> None:
    """While a provider thinks, others need the connection more."""
    if not connection.in_atomic_block:
        connection.close()
