"""The library's views with our rules. It imports the library, so only what serves a request imports
this."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from allauth.idp.oidc import views as library
from allauth.idp.oidc.models import Client
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse

from apps.accounts import connected, sessions
from apps.accounts.models import signed_in
from apps.adminkit.policy import HEADER, POLICY
from apps.api.oauth import offer
from apps.api.oauth.adapter import is_registered

# What programs may tell about themselves; the rest is not stored.
TOLD = ("client_name", "redirect_uris", "grant_types", "response_types")
TO_LET_IN = "to let an agent in"
TO_START_AGAIN = f"{TO_LET_IN}, then begin anew in its program"
SILENT = {"none", "login", "select_account"}  # values of `prompt` that we do not carry out


class Registration(library.ClientRegistrationView):  # type: ignore[misc]  # untyped
    def _get_client_metadata(self) -> dict[str, Any] | None:
        """The answer tells a program what it is registered as: every one without a secret."""
        told = super()._get_client_metadata()
        if told is None:
            return None
        fixed = {"token_endpoint_auth_method": offer.CLIENT_METHOD, "scope": offer.SCOPE}
        return {**{name: told[name] for name in TOLD if name in told}, **fixed}


class Authorization(library.AuthorizationView):  # type: ignore[misc]  # untyped
    template_name = "oauth/consent.html"

    def get(self, request: HttpRequest, *args: Any, **options: Any) -> HttpResponse:
        why = _refusal(request)
        if why is not None:
            return render(request, "oauth/refused.html", {"why": why}, status=400)
        if request.user.is_authenticated and not sessions.is_fresh(request):
            return sessions.sign_in_again(request, TO_LET_IN, request.get_full_path())
        answer: HttpResponse = super().get(request, *args, **options)
        if answer.status_code == 200:
            answer[HEADER] = _policy(request.GET["redirect_uri"])
        return answer

    def post(self, request: HttpRequest, *args: Any, **options: Any) -> HttpResponse:
        if request.user.is_authenticated and not sessions.is_fresh(request):
            return sessions.sign_in_again(request, TO_START_AGAIN, reverse("admin:index"))
        with transaction.atomic():
            answer: HttpResponse = super().post(request, *args, **options)
            code = parse_qs(urlsplit(answer.get("Location", "")).query).get("code")
            if code:
                connected.let_in(signed_in(request.user), code[0])
        return answer

    def get_context_data(self, **more: Any) -> dict[str, Any]:
        known: dict[str, Any] = super().get_context_data(**more)
        return known | {"to": _place(self._request_info["redirect_uri"])}


def _refusal(request: HttpRequest) -> str | None:
    """What the library does not refuse by itself."""
    if any(len(values) > 1 for _, values in request.GET.lists()):
        return "it gives a parameter twice"
    if SILENT & set(request.GET.get("prompt", "").split()):
        return "it asks for a `prompt` that this server does not know"
    if request.GET.get("resource", offer.resource()) != offer.resource():
        return f"it asks for another resource than {offer.resource()}"
    client = Client.objects.filter(pk=request.GET.get("client_id", "")).first()
    if client is None:
        return "it is not registered here, or no longer; let it register again"
    if not is_registered(request.GET.get("redirect_uri", ""), client.get_redirect_uris()):
        return "it wants to be answered at an address that it did not register"
    return None


def _place(address: str) -> str:
    """Where an address leads, without its path; the scheme of an app."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"


def _policy(address: str) -> str:
    """Browsers count where a form is led to as where it is sent."""
    return POLICY.replace("form-action 'self'", f"form-action 'self' {_place(address)}")


def exchange(request: HttpRequest) -> HttpResponse:
    """Tokens for a code or for a refresh token, which is good once."""
    if request.POST.get("resource", offer.resource()) != offer.resource():
        why = f"The resource here is {offer.resource()}"
        return JsonResponse({"error": "invalid_target", "error_description": why}, status=400)
    if request.POST.get("grant_type") != "refresh_token":
        return _given(request)
    token = request.POST.get("refresh_token", "")
    with transaction.atomic():
        grant = connected.before_refresh(token)
        answer = _given(request)
        if answer.status_code == 200 and grant is not None:
            connected.after_refresh(token, grant)
    return answer


def _given(request: HttpRequest) -> HttpResponse:
    answer: HttpResponse = library.token(request)
    return answer


register = Registration.as_view()
authorize = Authorization.as_view()
