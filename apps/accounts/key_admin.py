"""The pages of API keys: made, rotated and revoked; a secret is shown once, on the page that
answers its making."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextInputWidget,
)

from apps.accounts import key_scopes, sessions, tokens
from apps.accounts.models import ApiToken, Scope, User
from apps.adminkit import generic
from apps.adminkit.badges import badge
from apps.adminkit.templatetags.adminkit import moment
from engine.errors import InputError

TO_MAKE_KEYS = "to make an API key"
OVERLAPS = {"0": "at once", "1": "after an hour", "24": "after a day", "168": "after a week"}


class KeyForm(generic.ModelForm[ApiToken]):
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        initial=[Scope.READ.value],
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text="At most what the user may do.",
    )
    workspaces = forms.CharField(
        required=False,
        max_length=2000,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Patterns of names, with * for any characters: data-* web. Empty: all of them.",
    )
    days = forms.IntegerField(
        label="Valid for days",
        min_value=1,
        max_value=36500,
        required=False,
        initial=90,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Empty: until somebody revokes it, or the account's password changes.",
    )

    class Meta:
        model = ApiToken
        fields = ("user", "name")

    def clean_workspaces(self) -> list[str]:
        return str(self.cleaned_data["workspaces"]).replace(",", " ").split()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        try:
            key_scopes.checked(cleaned.get("scopes", ()), cleaned.get("workspaces", ()))
        except InputError as error:
            wrong = {name: told for name, told in error.problems.items() if name in cleaned}
            if wrong:
                raise ValidationError(wrong) from None
        return cleaned

    def make(self, user: User, now: datetime) -> tuple[str, ApiToken]:
        """The key, shown only now, and its row."""
        given = self.cleaned_data
        return tokens.make_key(
            user,
            given["name"],
            tokens.expiry_after(given["days"], now),
            scopes=given["scopes"],
            workspaces=given["workspaces"],
        )


class ApiTokenAdmin(generic.SuperusersOnly, generic.ModelAdmin[ApiToken]):
    form = KeyForm
    is_noted_by_service = True
    list_display = ("name", "prefix", "user", "scopes_shown", "limited", "expires", "used")
    when_empty = "No keys yet. Make one here; users can also make their own through the API."
    list_select_related = ("user",)
    list_fullwidth = True
    search_fields = ("name", "prefix", "user__email")
    autocomplete_fields = ()
    of_existing = (
        "name", "prefix", "owner", "scopes_shown", "limited", "created_at", "expires_at",
        "last_used_at", "old_until",
    )  # fmt: skip
    change_form_outer_after_template = "accounts/rotate.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.rotate))
        return [
            path("<int:pk>/rotate/", view, name="accounts_apitoken_rotate"),
            *super().get_urls(),
        ]

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> tuple[str, ...]:
        return self.of_existing if obj else ("user", "name", "scopes", "workspaces", "days")

    def get_readonly_fields(
        self, request: HttpRequest, obj: ApiToken | None = None
    ) -> tuple[str, ...]:
        return self.of_existing if obj else ()

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not sessions.is_fresh(request):
            return sessions.sign_in_again(request, TO_MAKE_KEYS, request.get_full_path())
        return super().add_view(request, form_url, extra_context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        more = {**(extra_context or {}), "overlaps": OVERLAPS.items()}
        return super().change_view(request, object_id, form_url, more)

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        key, made = form.make(obj.user, timezone.now())
        obj.pk, obj.prefix = made.pk, made.prefix
        obj.scopes, obj.workspaces = made.scopes, made.workspaces
        setattr(request, "_stroem_key", key)  # noqa: B010  (our attribute on Django's class)

    def response_add(
        self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        key = getattr(request, "_stroem_key")  # noqa: B009  (see save_model)
        return self._show(request, obj, key, "New API key")

    def rotate(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self.get_object(request, str(pk))
        if row is None or not self.has_add_permission(request):
            raise PermissionDenied
        page = reverse("admin:accounts_apitoken_change", args=[row.pk])
        if not sessions.is_fresh(request):
            return sessions.sign_in_again(request, "to make a new secret", page)
        hours = request.POST.get("overlap", "")
        if hours not in OVERLAPS:
            messages.error(request, "Choose until when the old secret stays good.")
            return redirect(page)
        key = tokens.rotate_key(row, timedelta(hours=int(hours)), timezone.now())
        return self._show(request, row, key, "New secret")

    def _show(self, request: HttpRequest, row: ApiToken, key: str, title: str) -> HttpResponse:
        back = reverse("admin:accounts_apitoken_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "crumbs": [("API keys", back)],
            "back": back,
            "key": key,
            "row": row,
        }
        answer = render(request, "accounts/new_key.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        tokens.revoke_key(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        for row in queryset:
            tokens.revoke_key(row)

    @admin.display(description="user")
    def owner(self, row: ApiToken) -> SafeString:
        kind = "serviceaccount" if row.user.is_service else "user"
        page = reverse(f"admin:accounts_{kind}_change", args=[row.user_id])
        return format_html('<a class="st-strong" href="{}">{}</a>', page, row.user)

    @admin.display(description="old secret good until")
    def old_until(self, row: ApiToken) -> SafeString | str:
        return moment(row.previous_until)

    @admin.display(description="scopes")
    def scopes_shown(self, row: ApiToken) -> str:
        return ", ".join(row.scopes)

    @admin.display(description="workspaces")
    def limited(self, row: ApiToken) -> str:
        return ", ".join(row.workspaces) or "all"

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, row: ApiToken) -> SafeString | str:
        if row.expires_at is None or row.expires_at > timezone.now():
            return moment(row.expires_at)
        return format_html("{} {}", badge("cancelled", "expired"), moment(row.expires_at))

    @admin.display(description="last used", ordering="last_used_at")
    def used(self, row: ApiToken) -> SafeString | str:
        return moment(row.last_used_at)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
