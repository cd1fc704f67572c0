"""The page of signing in: by password and code, by passkey, or at an identity provider; and the way
out."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.contrib.auth import logout
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods, require_POST
from unfold.forms import AuthenticationForm

from apps.accounts import sign_ins
from apps.accounts.backends import ASKS_FOR_SECOND
from apps.accounts.errors import SignInRefused, TooMany
from apps.accounts.models import User
from apps.accounts.second_factors import second_factors
from apps.accounts.throttles import address_range, spend, throttle_key
from apps.signin import entrance, factors, protocol
from apps.signin.adapters import offers_passkeys
from apps.signin.models import SignOn
from apps.signin.offered import named
from apps.signin.protocol import Tokens

PASSKEYS_A_MINUTE = 30
NO_PAGES = "This account may not open the pages; it is for the API only"


class SignIn(LoginView):
    authentication_form = AuthenticationForm
    template_name = "signin/sign_in.html"

    def dispatch(self, request: HttpRequest, *args: Any, **options: Any) -> HttpResponseBase:
        # The form asks the backend, which must know that the next page wants the second factor.
        setattr(request, ASKS_FOR_SECOND, True)
        is_in = request.method == "GET" and admin.site.has_permission(request)
        if is_in and "again" not in request.GET:
            return redirect(entrance.next_of(request))
        return super().dispatch(request, *args, **options)

    def get_initial(self) -> dict[str, Any]:
        user = self.request.user  # somebody who is to sign in again
        return {"username": user.email} if user.is_authenticated else {}

    def form_valid(self, form: Any) -> HttpResponse:
        user = cast(User, form.get_user())
        if second_factors(user):
            entrance.wait_for_second(self.request, user, entrance.next_of(self.request))
            return redirect("signin_second")
        entrance.enter(self.request, user, "password")
        return redirect(entrance.next_of(self.request))

    def form_invalid(self, form: Any) -> HttpResponse:
        if (user := form.get_user()) is not None:  # the password was right
            sign_ins.note_refused(user.email, NO_PAGES)
        return super().form_invalid(form)

    def get_context_data(self, **more: Any) -> dict[str, Any]:
        return {
            **super().get_context_data(**more),
            **frame(self.request, "Sign in"),
            "next": entrance.next_of(self.request),
            "ended": self.request.session.get(entrance.ENDED),
            "providers": named().values(),
            "offers_passkeys": offers_passkeys(),
        }


def frame(request: HttpRequest, title: str) -> dict[str, Any]:
    """What every page outside the admin's own views shows."""
    return {**admin.site.each_context(request), "title": title}


sign_in = never_cache(SignIn.as_view())


@never_cache
@csrf_protect
@require_http_methods(["GET", "POST"])
def second(request: HttpRequest) -> HttpResponse:
    """The second page: a code, or a passkey."""
    waiting = entrance.waiting(request)
    if waiting is None:
        return redirect("admin:login")
    told = ""
    if request.method == "POST":
        try:
            how = factors.check_code(waiting.user, request.POST.get("code", ""))
        except TooMany as error:
            told = f"Too many codes; try again in {error.retry_after_s} seconds"
        except SignInRefused as error:
            told = str(error)
        else:
            entrance.enter(request, waiting.user, how)
            return redirect(waiting.next)
    kinds = second_factors(waiting.user)
    more = {
        "told": told, "has_app": "totp" in kinds, "next": waiting.next,
        "has_passkey": "webauthn" in kinds and offers_passkeys(),
    }  # fmt: skip
    context = {**frame(request, "Second factor"), **more}
    return render(request, "signin/second.html", context, status=401 if told else 200)


@never_cache
@csrf_protect
@require_POST
def passkey_begin(request: HttpRequest) -> HttpResponse:
    try:
        _spend(request)
    except TooMany as error:
        return _told(str(error), 429, error.retry_after_s)
    entrance.begin(request)
    return JsonResponse(factors.begin_sign_in())


@never_cache
@csrf_protect
@require_POST
def passkey(request: HttpRequest) -> HttpResponse:
    """The answer of a browser's passkey; it stands for password and second factor."""
    try:
        _spend(request)
        user = factors.owner_of_passkey(request.POST.get("credential", ""))
        if not user.is_staff:
            sign_ins.note_refused(user.email, NO_PAGES)
            raise SignInRefused(NO_PAGES)
    except TooMany as error:
        return _told(str(error), 429, error.retry_after_s)
    except SignInRefused as error:
        return _told(str(error), 401)
    entrance.enter(request, user, "passkey")
    return JsonResponse({"next": entrance.next_of(request)})


def _spend(request: HttpRequest) -> None:
    place = address_range(request.META.get("REMOTE_ADDR", ""))
    spend(throttle_key("passkey", place), limit=PASSKEYS_A_MINUTE, window_s=60)


def _told(sentence: str, status: int, retry_s: int | None = None) -> JsonResponse:
    answer = JsonResponse({"error": sentence}, status=status)
    if retry_s is not None:
        answer["Retry-After"] = str(retry_s)
    return answer


@never_cache
@csrf_protect
@require_http_methods(["GET", "POST"])
def sign_out(request: HttpRequest) -> HttpResponseBase:
    """Here, and at the provider where the session began, if it offers that."""
    if request.method == "GET":
        return redirect("admin:index")
    pk = request.session.get(entrance.SIGN_ON)
    row = SignOn.objects.filter(pk=pk).first() if pk is not None else None
    logout(request)
    if row is None:
        return HttpResponseRedirect(reverse("admin:login"))
    provider = named().get(row.provider)
    there = None
    if provider is not None:
        tokens = Tokens.opened(row.tokens, row.expires_at)
        there = protocol.farewell_address(provider, tokens)
    row.delete()
    if there is None or provider is None:
        return HttpResponseRedirect(reverse("admin:login"))
    # A page, as the policy of pages lets no form lead to another server.
    context = {**frame(request, "Signed out"), "there": there, "provider": provider}
    return render(request, "signin/signed_out.html", context)
