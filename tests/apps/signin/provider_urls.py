"""The addresses of the provider of `provider_site`, and what it tells about people."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from allauth.account.models import EmailAddress
from allauth.idp.oidc.adapter import DefaultOIDCAdapter
from allauth.idp.oidc.models import Client, Token
from django.contrib.auth import login
from django.contrib.auth.models import Group, User
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from tests.apps.signin.provider import CLIENT, LATE, SECRET

BACK = "/admin/login/with/company/callback/"
asked = [0]


class Adapter(DefaultOIDCAdapter):  # type: ignore[misc]  # untyped
    def get_claims(self, purpose: str, user: Any, client: Any, scopes: Any, **more: Any) -> Any:
        claims = super().get_claims(purpose, user, client, scopes, **more)
        if purpose == "id_token":
            claims["auth_time"] = int(user.last_login.timestamp())
        if purpose == ("id_token" if client.id == LATE else "userinfo"):
            claims["groups"] = [one.name for one in user.groups.order_by("name")]
        return claims


def make_clients() -> None:
    for id in (CLIENT, LATE):
        client = Client(id=id, name=id, type="confidential", skip_consent=True)
        client.set_secret(SECRET)
        client.set_grant_types(["authorization_code", "refresh_token"])
        client.set_scopes(["openid", "profile", "email"])
        client.set_default_scopes(["openid"])
        client.set_redirect_uris([f"http://127.0.0.1:8080{BACK}"])
        client.save()


def enter(request: HttpRequest) -> HttpResponse:
    who = User.objects.get(username=request.GET["who"])
    login(request, who, "django.contrib.auth.backends.ModelBackend")
    ago = timedelta(seconds=int(request.GET.get("ago", 0)))
    User.objects.filter(pk=who.pk).update(last_login=timezone.now() - ago)
    return HttpResponse("in")


@csrf_exempt
def change(request: HttpRequest) -> HttpResponse:
    told = json.loads(request.body)
    user, _ = User.objects.get_or_create(username=told["who"])
    user.first_name, user.is_active = told["who"].title(), told.get("active", True)
    user.email = told["email"]
    user.save()
    EmailAddress.objects.filter(Q(user=user) | Q(email=told["email"])).delete()
    EmailAddress.objects.create(
        user=user, email=told["email"], verified=told["verified"], primary=True
    )
    user.groups.set([Group.objects.get_or_create(name=name)[0] for name in told["groups"]])
    if told.get("forget"):
        Token.objects.filter(user=user).delete()
    return HttpResponse("done")


@csrf_exempt
def serve(request: HttpRequest) -> HttpResponse:
    base = json.loads(request.body)["base"]
    for client in Client.objects.all():
        client.set_redirect_uris([*client.get_redirect_uris(), f"{base}{BACK}"])
        client.save()
    return HttpResponse("done")


def told(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(asked[0]))


def counted(get_response: Any) -> Any:
    def answer(request: HttpRequest) -> Any:
        asked[0] += request.path.endswith(("/token", "/userinfo"))
        return get_response(request)

    return answer


urlpatterns = [
    path("serve", serve),
    path("asked", told),
    path("as", enter),
    path("change", change),
    path("", include("allauth.idp.urls")),
    path("accounts/", include("allauth.urls")),
]
