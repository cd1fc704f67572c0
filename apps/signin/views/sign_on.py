"""The way to an identity provider, and back."""

from __future__ import annotations

import logging

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from apps.accounts import sign_ins
from apps.accounts.errors import TooMany
from apps.accounts.throttles import address_range, spend, throttle_key
from apps.signin import arrivals, checks, entrance, protocol
from apps.signin.errors import NotAdmitted, ProviderAway, ProviderWrong
from apps.signin.offered import Named, named
from apps.signin.views.door import frame

log = logging.getLogger("stroem.accounts")
BEGUN_A_MINUTE = 60


@never_cache
@require_GET
def begin(request: HttpRequest, name: str) -> HttpResponse:
    provider = _known(name)
    try:
        _spend(request)
        entrance.begin(request)
        return protocol.begin(request, provider, entrance.next_of(request))
    except (TooMany, ProviderAway, ProviderWrong) as error:
        return _refused(request, provider, error)


@never_cache
@require_GET
def callback(request: HttpRequest, name: str) -> HttpResponse:
    provider = _known(name)
    try:
        _spend(request)
        arrival = protocol.finish(request, provider, timezone.now())
        user = arrivals.admit(provider, arrival.identity)
    except (TooMany, NotAdmitted, ProviderAway, ProviderWrong) as error:
        return _refused(request, provider, error)
    sign_on = checks.begin(provider, user, arrival)
    entrance.enter(request, user, provider.name, sign_on, arrival.proven_at)
    return redirect(arrival.next or entrance.HOME)


def _known(name: str) -> Named:
    try:
        return named()[name]
    except KeyError:
        raise Http404 from None


def _spend(request: HttpRequest) -> None:
    place = address_range(request.META.get("REMOTE_ADDR", ""))
    spend(throttle_key("sign-on", place), limit=BEGUN_A_MINUTE, window_s=60)


def _refused(
    request: HttpRequest,
    provider: Named,
    error: TooMany | NotAdmitted | ProviderAway | ProviderWrong,
) -> HttpResponse:
    match error:
        case NotAdmitted():
            status, said = 403, str(error)
        case TooMany():
            status, said = 429, f"Too many attempts; try again in {error.retry_after_s} seconds."
        case ProviderAway():
            status, said = 503, f"{provider.title} does not answer. Try again in a minute."
        case ProviderWrong():
            status, said = 502, f"{provider.title} cannot be used: {error}."
    if isinstance(error, NotAdmitted | ProviderWrong):
        sign_ins.note_refused(f"somebody by {provider.name}", str(error))
    log.warning("nobody came in by %s: %s", provider.name, error)
    context = {**frame(request, "Not signed in"), "said": said, "provider": provider}
    return render(request, "signin/refused.html", context, status=status)
