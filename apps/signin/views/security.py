"""The page where people manage how they sign in. What it changes needs a sign-in of late."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.views.decorators.http import require_POST

from apps.accounts import sessions
from apps.accounts.errors import TooMany
from apps.signin import factors
from apps.signin.adapters import offers_passkeys
from apps.signin.entrance import signed_in
from apps.signin.offered import named
from engine.errors import InputError

View = Callable[..., HttpResponse]


def fresh(view: View) -> View:
    """Who only holds an open session must not be able to keep it for good."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **options: Any) -> HttpResponse:
        if not signed_in(request).has_usable_password():
            raise PermissionDenied
        if not sessions.is_fresh(request):
            back = reverse("signin_security")
            return sessions.sign_in_again(request, "to change how you sign in", back)
        return view(request, *args, **options)

    return guarded


def security(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    names = named()
    links = [
        names[row.provider].title if row.provider in names else row.provider
        for row in SocialAccount.objects.filter(user=user)
    ]
    own = factors.of(user)
    more = {
        "factors": own,
        "has_app": any(one.type == factors.TYPES.TOTP for one in own),
        "codes_left": len(factors.recovery_codes(user)),
        "links": links,
        "has_password": user.has_usable_password(),
        "offers_passkeys": offers_passkeys(),
    }
    return render(request, "signin/security.html", frame(request, "Sign-in and security", more))


def frame(request: HttpRequest, title: str, more: dict[str, Any]) -> dict[str, Any]:
    return {**admin.site.each_context(request), "title": title, **more}


@fresh
def app(request: HttpRequest) -> HttpResponse:
    """An authenticator app: its picture, and the code that shows that it works."""
    user, told = signed_in(request), ""
    if request.method == "POST":
        try:
            factors.add_app(request, user, request.POST.get("code", ""))
        except InputError as error:
            told = str(error)
        except TooMany as error:
            told = f"Too many codes; try again in {error.retry_after_s} seconds"
        else:
            messages.success(request, "The app is set up. Keep these recovery codes.")
            return redirect("signin_codes")
    more = {"setup": factors.setup(request, user), "told": told}
    status = 400 if told else 200
    return render(
        request, "signin/app.html", frame(request, "Authenticator app", more), status=status
    )


@fresh
def codes(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    if request.method == "POST":
        try:
            factors.renew_recovery_codes(user)
        except InputError as error:
            messages.error(request, str(error))
            return redirect("signin_security")
    more = {"codes": factors.recovery_codes(user)}
    return render(request, "signin/codes.html", frame(request, "Recovery codes", more))


@require_POST
@fresh
def passkey_begin(request: HttpRequest) -> HttpResponse:
    return JsonResponse(factors.begin_passkey(signed_in(request)))


@require_POST
@fresh
def passkey(request: HttpRequest) -> HttpResponse:
    user, is_first = signed_in(request), not factors.of(signed_in(request))
    try:
        factors.add_passkey(user, request.POST.get("name", ""), request.POST.get("credential", ""))
    except InputError as error:
        return JsonResponse({"error": str(error)}, status=400)
    messages.success(request, "The passkey is stored.")
    return JsonResponse({"next": reverse("signin_codes" if is_first else "signin_security")})


@require_POST
@fresh
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    factors.remove(signed_in(request), pk)
    messages.success(request, "Removed.")
    return redirect("signin_security")


def _page(view: View) -> View:
    guarded: View = admin.site.admin_view(view)
    return guarded


urlpatterns = [
    path("admin/security/", _page(security), name="signin_security"),
    path("admin/security/app/", _page(app), name="signin_app"),
    path("admin/security/codes/", _page(codes), name="signin_codes"),
    path("admin/security/passkey/begin/", _page(passkey_begin), name="signin_passkey_begin"),
    path("admin/security/passkey/", _page(passkey), name="signin_passkey_add"),
    path("admin/security/<int:pk>/remove/", _page(remove), name="signin_remove"),
]
