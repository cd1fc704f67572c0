"""What people sign in with, for superusers: to take away, when a device or a job is lost."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.accounts.models import User
from apps.adminkit import generic
from apps.adminkit.generic import SuperusersOnly
from apps.adminkit.templatetags.adminkit import moment
from apps.signin import factors
from apps.signin.offered import named

KINDS = {"totp": "authenticator app", "webauthn": "passkey", "recovery_codes": "recovery codes"}


class Removable(SuperusersOnly):
    """Nothing is added or changed here."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_change_permission = has_add_permission


class FactorAdmin(Removable, generic.ModelAdmin[Authenticator]):
    is_noted_by_service = True
    list_title = "Second factors"
    list_display = ("user", "what", "called", "made", "used")
    list_display_links = ("user", "what")
    when_empty = "None yet. People set them up under “Sign-in and security” in their menu."
    list_select_related = ("user",)
    search_fields = ("user__email",)
    fields = readonly_fields = ("user", "what", "called", "created_at", "last_used_at")

    @admin.display(description="kind", ordering="type")
    def what(self, row: Any) -> str:
        return KINDS.get(str(row.type), str(row.type))

    @admin.display(description="name")
    def called(self, row: Any) -> str:
        return str(row) if row.type == "webauthn" else ""

    @admin.display(description="since", ordering="created_at")
    def made(self, row: Any) -> SafeString | str:
        return moment(row.created_at)

    @admin.display(description="last used", ordering="last_used_at")
    def used(self, row: Any) -> SafeString | str:
        return moment(row.last_used_at)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        factors.remove(obj.user, obj.pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            factors.remove(row.user, row.pk)


class LinkAdmin(Removable, generic.ModelAdmin[SocialAccount]):
    """Who signs in at which provider. Without the link, their sessions end within a minute."""

    list_title = "Single sign-on"
    list_display = ("user", "at", "uid", "since", "seen")
    when_empty = "Nobody yet. A link is made when somebody first signs in at a provider."
    list_select_related = ("user",)
    search_fields = ("user__email", "uid")
    fields = readonly_fields = ("user", "at", "uid", "date_joined")

    @admin.display(description="provider", ordering="provider")
    def at(self, row: Any) -> str:
        found = named().get(row.provider)
        return found.title if found else f"{row.provider} (no longer in the settings)"

    @admin.display(description="since", ordering="date_joined")
    def since(self, row: Any) -> SafeString | str:
        return moment(row.date_joined)

    @admin.display(description="account last signed in", ordering="user__last_login")
    def seen(self, row: Any) -> SafeString | str:
        user: User = row.user
        return moment(user.last_login)


PAGES: dict[Any, Any] = {Authenticator: FactorAdmin, SocialAccount: LinkAdmin}
