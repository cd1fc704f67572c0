"""Users, service accounts, groups and grants. Superusers only: who edits grants can grant
themselves any."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Max, QuerySet
from django.http import HttpRequest
from django.urls import reverse, reverse_lazy
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from apps.accounts import alerts, connected
from apps.accounts.key_admin import ApiTokenAdmin
from apps.accounts.models import (
    ApiToken,
    ConnectedAgent,
    Role,
    ServiceAccount,
    User,
    WorkspaceGrant,
)
from apps.accounts.people import service_email
from apps.adminkit import generic
from apps.adminkit.badges import badge
from apps.adminkit.generic import SuperusersOnly
from apps.adminkit.templatetags.adminkit import moment
from engine.rights import EVERYTHING, MEANINGS, OF_ROLES

PATTERNS = (
    "The name of a workspace; * stands for any characters. For example, data-* matches data-eu and"
    " data-us, and * alone matches every workspace, also those to come."
)
TASKS = (
    "Only tasks whose folder and name match, such as deploy/*, deploy/release or *backup; * alone"
    " means all of them and the workspace itself, with its secrets and subscriptions."
)
RIGHTS_OF = (
    "Of a custom grant: what it gives, beside seeing the task. Of a denial: what it takes away;"
    " nothing chosen, or 'see', takes everything away."
)
OF_GROUPS = "Gives the grants of these groups."
NO_MEMBERS = "None yet. Groups are chosen on the page of a user."


class GrantForm(generic.ModelForm[WorkspaceGrant]):
    """Explains the patterns, and shows what they match as they are typed."""

    rights = forms.MultipleChoiceField(
        choices=[(str(right), f"{right}: {words}") for right, words in MEANINGS.items()],
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text=RIGHTS_OF,
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        pattern = self.fields["pattern"]
        pattern.help_text = PATTERNS
        pattern.widget.attrs["data-preview"] = reverse_lazy("admin:workspaces_workspace_matching")
        tasks = self.fields["tasks"]
        tasks.required = False
        tasks.help_text = TASKS
        tasks.widget.attrs["data-preview"] = reverse_lazy("rights_matching")

    class Meta:
        model = WorkspaceGrant
        fields = ("pattern", "tasks", "role", "rights", "user", "group")

    class Media:
        js = ("adminkit/preview.js",)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        holders = [cleaned.get(name) for name in ("user", "group") if name in self.fields]
        if len(holders) == 2 and (holders[0] is None) == (holders[1] is None):
            raise ValidationError("Choose a user or a group: exactly one of them holds the grant.")
        cleaned["tasks"] = (cleaned.get("tasks") or "").strip() or EVERYTHING
        role, rights = cleaned.get("role"), cleaned.get("rights")
        if role == Role.CUSTOM and not rights:
            self.add_error("rights", "A custom grant gives the rights chosen here: choose some.")
        if role in OF_ROLES and rights:
            said = f"The role {role} has its own rights: choose none, or the role custom or deny."
            self.add_error("rights", said)
        return cleaned


class GrantInline(SuperusersOnly, generic.StackedInline[WorkspaceGrant, User | Group]):
    model = WorkspaceGrant
    form = GrantForm
    extra = 0
    fields = ("pattern", "tasks", "role", "rights")


class PasswordForm(AdminPasswordChangeForm):  # type: ignore[misc]  # untyped
    def clean(self) -> dict[str, Any]:
        if self.user.is_service:
            raise ValidationError("Nobody signs in to a service account: it has API keys.")
        cleaned: dict[str, Any] = super().clean() or {}
        return cleaned


class InGroups(SuperusersOnly):
    """Whoever signs in, people and programs: on or off, and in groups that give them rights."""

    @admin.display(description="state", ordering="is_active")
    def state(self, row: User) -> SafeString:
        return badge("completed", "active") if row.is_active else badge("cancelled", "off")

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "groups":
            options |= {"widget": UnfoldAdminCheckboxSelectMultipleWidget(), "help_text": OF_GROUPS}
        return super().formfield_for_manytomany(db_field, request, **options)  # type: ignore[misc]


@admin.register(User)
class UserAdmin(InGroups, generic.UserAdmin[User]):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = PasswordForm
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

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).filter(is_service=False)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:
        with transaction.atomic():  # with its entry in the audit log
            return super().user_change_password(request, id, form_url)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "email" in form.changed_data:  # mail for a new password goes there now
            before = form.initial["email"]
            what = f"The address of your account is now {obj.email}; it was {before}."
            alerts.tell(obj, "Your e-mail address was changed", what, to=before)

    @admin.display(description="rights", ordering="is_superuser")
    def rights(self, row: User) -> SafeString:
        words = badge("ready", "superuser") if row.is_superuser else "by grants"
        address = f"{reverse('rights')}?{urlencode({'person': row.email})}"
        return format_html('<a href="{}">{}</a>', address, words)

    @admin.display(description="last sign-in", ordering="last_login")
    def seen(self, row: User) -> SafeString | str:
        return moment(row.last_login)


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(SuperusersOnly, generic.GroupAdmin):
    fields = ("name", "members")  # grants decide, not model permissions
    readonly_fields = ("members",)
    list_display = ("name", "size")
    filter_horizontal = ()
    inlines = (GrantInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        return super().get_queryset(request).annotate(members_count=Count("user"))

    @admin.display(description="members", ordering="members_count")
    def size(self, row: Any) -> int:
        return int(row.members_count)

    @admin.display(description="members")
    def members(self, row: Group) -> SafeString | str:
        """With links to their pages, where groups are chosen."""
        people = User.objects.filter(groups=row).order_by("email") if row.pk else ()
        links = [
            (reverse("admin:accounts_user_change", args=[one.pk]), one.email) for one in people
        ]
        return format_html_join(", ", '<a href="{}">{}</a>', links) or NO_MEMBERS


@admin.register(WorkspaceGrant)
class WorkspaceGrantAdmin(SuperusersOnly, generic.ModelAdmin[WorkspaceGrant]):
    form = GrantForm
    list_display = ("pattern", "tasks", "role", "chosen", "user", "group")
    list_filter = ("role",)
    list_select_related = ("user", "group")
    search_fields = ("pattern", "user__email", "group__name")

    @admin.display(description="rights")
    def chosen(self, row: WorkspaceGrant) -> str:
        return ", ".join(row.rights) or ("everything" if row.role == Role.DENY else "of the role")


admin.site.register(ApiToken, ApiTokenAdmin)
# a new password and its entry in the audit log, together
setattr(admin.site, "password_change", transaction.atomic(admin.site.password_change))  # noqa: B010


class ServiceForm(generic.ModelForm[ServiceAccount]):
    name = forms.RegexField(
        r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$",
        widget=UnfoldAdminTextInputWidget(),
        help_text="Lower-case letters, digits and hyphens: nightly-import.",
    )

    class Meta:
        model = ServiceAccount
        fields = ("name", "is_active", "groups")
        help_texts: ClassVar = {"is_active": "Off: none of its keys works. Nothing is lost."}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk:
            del self.fields["name"]  # it is for good: keys and the log name it

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if User.objects.with_email(service_email(name)).exists():
            raise ValidationError("There is a service account of this name already.")
        return name


@admin.register(ServiceAccount)
class ServiceAccountAdmin(InGroups, generic.ModelAdmin[ServiceAccount]):
    """Users for programs. They have grants like people, keys, and no way to sign in."""

    form = ServiceForm
    inlines = (GrantInline,)
    ordering = ("email",)
    list_display = ("called", "state", "keys", "used")
    search_fields = ("email", "first_name")
    when_empty = "None yet. Programs that act for no person have an account here, and keys."

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServiceAccount]:
        rows = super().get_queryset(request).filter(is_service=True)
        known = {"keys_count": Count("api_tokens"), "used_at": Max("api_tokens__last_used_at")}
        return rows.annotate(**known)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("email", "is_active", "groups", "their_keys") if obj else ServiceForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("email", "their_keys") if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.first_name = form.cleaned_data["name"]
            obj.email, obj.is_service, obj.is_staff = service_email(obj.first_name), True, False
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)

    @admin.display(description="service account", ordering="email")
    def called(self, row: ServiceAccount) -> str:
        return row.email

    @admin.display(description="keys")
    def keys(self, row: Any) -> int:
        return int(row.keys_count)

    @admin.display(description="last used")
    def used(self, row: Any) -> SafeString | str:
        return moment(row.used_at)

    @admin.display(description="API keys")
    def their_keys(self, row: ServiceAccount) -> SafeString:
        """With links to their pages, and to the form for another one."""
        keys = ApiToken.objects.filter(user=row).order_by("name")
        page = "admin:accounts_apitoken_change"
        links = [(reverse(page, args=[one.pk]), str(one)) for one in keys]
        new = f"{reverse('admin:accounts_apitoken_add')}?user={row.pk}"
        links.append((new, "make a key"))
        return format_html_join(", ", '<a class="st-strong" href="{}">{}</a>', links)


@admin.register(ConnectedAgent)
class ConnectedAgentAdmin(SuperusersOnly, generic.ModelAdmin[ConnectedAgent]):
    """Lists what people have let in at /mcp, and ends it: to delete is to revoke."""

    is_noted_by_service = True
    list_display = ("called", "user", "created", "expires", "used")
    when_empty = "None yet. People let agents in at /mcp, where the settings enable that."
    list_select_related = ("user",)
    search_fields = ("name", "client_id", "user__email")
    fields = readonly_fields = (
        "name", "client_id", "user", "created_at", "expires_at", "last_used_at",
    )  # fmt: skip

    @admin.display(description="agent", ordering="name")
    def called(self, row: ConnectedAgent) -> str:
        return row.name or row.client_id

    @admin.display(description="let in", ordering="created_at")
    def created(self, row: ConnectedAgent) -> SafeString | str:
        return moment(row.created_at)

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, row: ConnectedAgent) -> SafeString | str:
        return moment(row.expires_at)

    @admin.display(description="last used", ordering="last_used_at")
    def used(self, row: ConnectedAgent) -> SafeString | str:
        return moment(row.last_used_at)

    def delete_model(self, request: HttpRequest, obj: ConnectedAgent) -> None:
        connected.revoke(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ConnectedAgent]) -> None:
        for row in queryset:
            connected.revoke(row)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
