"""Sign-in, the current user, API keys."""

from __future__ import annotations

from rest_framework import serializers

from apps.accounts.key_scopes import MOST_PATTERNS
from apps.accounts.models import ApiToken, ConnectedAgent, Scope, User
from apps.accounts.people import LONGEST_NAME
from apps.api.shapes.base import Asked, Shape, Values

NAME = "Name is required"


class LoginRequest(Asked):
    email = serializers.CharField(max_length=254)
    password = serializers.CharField(max_length=4096, trim_whitespace=False)
    code = serializers.CharField(
        max_length=20,
        required=False,
        allow_blank=True,
        help_text="Of an authenticator app, or a recovery code, if the account has a second factor",
    )


class RefreshRequest(Asked):
    refresh_token = serializers.CharField(required=False, allow_blank=True, max_length=200)


class TokenShape(Shape[Values]):
    access_token = serializers.CharField()


class MeShape(Shape[User]):
    user_id = serializers.IntegerField(source="pk")
    name = serializers.SerializerMethodField()
    email = serializers.EmailField()
    is_admin = serializers.BooleanField(source="is_superuser")
    groups = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField(source="date_joined")

    def get_name(self, user: User) -> str:
        return user.get_full_name() or user.email

    def get_groups(self, user: User) -> list[str]:
        return sorted(user.groups.values_list("name", flat=True))


def scope_field() -> serializers.ChoiceField:
    known = ", ".join(Scope)
    return serializers.ChoiceField(
        choices=list(Scope),
        error_messages={"invalid_choice": f"'{{input}}' is no scope: known are {known}"},
    )


class KeyRequest(Asked):
    name = serializers.CharField(
        max_length=200, error_messages=dict.fromkeys(("required", "blank", "null"), NAME)
    )
    expires_in_days = serializers.IntegerField(required=False, allow_null=True, max_value=36500)
    scopes = serializers.ListField(
        child=scope_field(),
        required=False,
        max_length=10,
        help_text="`admin` if they are left out: everything its owner may do",
    )
    workspaces = serializers.ListField(
        child=serializers.CharField(max_length=200),
        required=False,
        max_length=MOST_PATTERNS,
        help_text="Patterns of names, with `*`; none: every workspace",
    )


class KeyShape(Shape[ApiToken]):
    prefix = serializers.CharField()
    name = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    scopes = serializers.ListField(child=serializers.CharField())
    workspaces = serializers.ListField(child=serializers.CharField())
    previous_until = serializers.DateTimeField(
        allow_null=True, help_text="Until then the secret before the last rotation is good, too"
    )


class RotateRequest(Asked):
    overlap_hours = serializers.IntegerField(
        min_value=0,
        max_value=24 * 90,
        help_text="How long the old secret stays good; 0: not at all",
    )


class NewKeyShape(Shape[Values]):
    key = serializers.CharField()
    name = serializers.CharField(source="row.name")
    prefix = serializers.CharField(source="row.prefix")
    expires_at = serializers.DateTimeField(source="row.expires_at", allow_null=True)
    scopes = serializers.ListField(source="row.scopes", child=serializers.CharField())
    workspaces = serializers.ListField(source="row.workspaces", child=serializers.CharField())
    previous_until = serializers.DateTimeField(source="row.previous_until", allow_null=True)


class ServiceRequest(Asked):
    name = serializers.CharField(max_length=100)
    groups = serializers.ListField(
        child=serializers.CharField(max_length=200, allow_blank=True),
        required=False,
        max_length=200,
    )


class ServiceShape(Shape[User]):
    user_id = serializers.IntegerField(source="pk")
    name = serializers.CharField(source="first_name")
    email = serializers.CharField(help_text="What names it in lists and grants")
    is_active = serializers.BooleanField()
    groups = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField(source="date_joined")

    def get_groups(self, user: User) -> list[str]:
        return sorted(group.name for group in user.groups.all())


class ServicePage(Shape[Values]):
    items = ServiceShape(many=True)
    total = serializers.IntegerField()


class ConnectedAgentShape(Shape[ConnectedAgent]):
    id = serializers.CharField()
    name = serializers.CharField()
    client_id = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)


class ConfigShape(Shape[Values]):
    auth_required = serializers.BooleanField()
    acl_enabled = serializers.BooleanField()
    oidc_providers = serializers.ListField(child=serializers.DictField())
    has_internal_auth = serializers.BooleanField()
    version = serializers.CharField()


# People and groups, for administrators


class PersonRequest(Asked):
    email = serializers.CharField(max_length=254)
    name = serializers.CharField(
        required=False, allow_null=True, allow_blank=True, max_length=LONGEST_NAME
    )
    groups = serializers.ListField(
        child=serializers.CharField(max_length=200, allow_blank=True),
        required=False,
        allow_null=True,
        max_length=200,
    )
    is_admin = serializers.BooleanField(required=False)


class AdminRequest(Asked):
    is_admin = serializers.BooleanField()


class GroupsRequest(Asked):
    groups = serializers.ListField(
        child=serializers.CharField(max_length=200, allow_blank=True), max_length=200
    )


class GroupsShape(Shape[Values]):
    groups = serializers.ListField(child=serializers.CharField())


class NewPersonShape(Shape[User]):  # its groups are prefetched
    user_id = serializers.IntegerField(source="pk")
    email = serializers.EmailField()
    name = serializers.SerializerMethodField()
    groups = serializers.SerializerMethodField()
    is_admin = serializers.BooleanField(source="is_superuser")

    def get_name(self, user: User) -> str:
        return user.get_full_name() or user.email

    def get_groups(self, user: User) -> list[str]:
        return sorted(group.name for group in user.groups.all())


class PersonShape(NewPersonShape):
    is_active = serializers.BooleanField()
    auth_methods = serializers.SerializerMethodField(help_text="How they can sign in")
    created_at = serializers.DateTimeField(source="date_joined")
    last_login_at = serializers.DateTimeField(source="last_login", allow_null=True)

    def get_auth_methods(self, user: User) -> list[str]:
        return ["password"] if user.has_usable_password() else []


class PersonPage(Shape[Values]):
    items = PersonShape(many=True)
    total = serializers.IntegerField()
