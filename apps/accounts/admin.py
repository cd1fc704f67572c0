"""Users, groups, grants and API keys. Superusers only: who edits grants can grant themselves
any."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from apps.accounts.models import ApiToken, User, WorkspaceGrant
from apps.adminkit import generic
from apps.adminkit.badges import badge
from apps.adminkit.templatetags.adminkit import moment


class SuperusersOnly:
    """Only superusers open this page; model permissions do not count."""

    def _is_superuser(self, request: HttpRequest, obj: object = None) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    has_module_permission = has_view_permission = _is_superuser
    has_add_permission = has_change_permission = has_delete_permission = _is_superuser


class GrantInline(SuperusersOnly, generic.StackedInline[WorkspaceGrant, User | Group]):
    model = WorkspaceGrant
    extra = 0
    fields = ("pattern", "role")


@admin.register(User)
class UserAdmin(SuperusersOnly, generic.UserAdmin[User]):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    inlines = (GrantInline,)
    ordering = ("email",)
    list_display = ("email", "state", "rights", "seen")
    list_filter = ("is_active", "is_superuser", "groups")
    search_fields = ("email", "first_name", "last_name")
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("email", "password", ("first_name", "last_name"))}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Activity", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "password1", "password2")}),)

    @admin.display(description="state", ordering="is_active")
    def state(self, row: User) -> SafeString:
        return badge("completed", "active") if row.is_active else badge("cancelled", "off")

    @admin.display(description="rights", ordering="is_superuser")
    def rights(self, row: User) -> SafeString | str:
        return badge("ready", "superuser") if row.is_superuser else "by grants"

    @admin.display(description="last sign-in", ordering="last_login")
    def seen(self, row: User) -> SafeString | str:
        return moment(row.last_login)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "groups":
            options["widget"] = UnfoldAdminCheckboxSelectMultipleWidget()
        return super().formfield_for_manytomany(db_field, request, **options)


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(SuperusersOnly, generic.GroupAdmin):
    fields = ("name",)  # grants decide, not model permissions
    filter_horizontal = ()
    inlines = (GrantInline,)


@admin.register(WorkspaceGrant)
class WorkspaceGrantAdmin(SuperusersOnly, generic.ModelAdmin[WorkspaceGrant]):
    list_display = ("pattern", "role", "user", "group")
    list_filter = ("role",)
    list_select_related = ("user", "group")
    search_fields = ("pattern", "user__email", "group__name")
    autocomplete_fields = ("user", "group")


@admin.register(ApiToken)
class ApiTokenAdmin(SuperusersOnly, generic.ModelAdmin[ApiToken]):
    """Lists and revokes keys. Their owners create them through the API."""

    list_display = ("name", "prefix", "user", "created", "expires", "used")
    when_empty = "No keys yet. Users create their own through the API."
    list_select_related = ("user",)
    search_fields = ("name", "prefix", "user__email")
    fields = readonly_fields = (
        "name",
        "prefix",
        "user",
        "created_at",
        "expires_at",
        "last_used_at",
    )

    @admin.display(description="created", ordering="created_at")
    def created(self, row: ApiToken) -> SafeString | str:
        return moment(row.created_at)

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, row: ApiToken) -> SafeString | str:
        return moment(row.expires_at)

    @admin.display(description="last used", ordering="last_used_at")
    def used(self, row: ApiToken) -> SafeString | str:
        return moment(row.last_used_at)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
