"""Users sign in by e-mail. Roles on workspaces are granted by name pattern. A user knows their own
grants; what these lead to on a workspace or task is decided in `apps.workspaces.rights`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Self

from django.contrib.auth.models import AbstractUser, AnonymousUser, Group
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower, Now
from django.utils.crypto import salted_hmac

from apps.accounts.querysets import UserManager
from engine.rights import ALL_RIGHTS, EVERYTHING, OF_ROLES, Holder, Right, Rights, Rule

if TYPE_CHECKING:
    from apps.accounts.key_scopes import Limits

OF_SUPERUSERS = Rule(0, EVERYTHING, ALL_RIGHTS)


class User(AbstractUser):
    """A person or a service account."""

    username = None  # type: ignore[assignment]  # as Django says to leave it out
    email = models.EmailField("e-mail", unique=True)
    is_staff = models.BooleanField(
        "opens the pages",
        default=True,
        help_text="Grants say what is to be seen there. Off: for the API only.",
    )

    is_service = models.BooleanField(
        "service account",
        default=False,
        db_default=False,
        help_text="For programs: has API keys, and nobody signs in to it",
    )
    key: ApiToken | None = None  # that a program has shown
    limits: Limits | None = None  # what that key narrows; see `key_scopes`
    _stroem_rules: tuple[Rule, ...] | None = None
    _stroem_holder: Holder | None = None
    epoch = models.PositiveIntegerField(
        default=0, editable=False, help_text="Counts changes of groups; the database keeps it"
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager[Self]] = UserManager()  # type: ignore[assignment]  # without a username

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="accounts_user_email_ci")]

    @property
    def credential(self) -> str:
        """A fingerprint of the current password: what was signed under an older one is invalid."""
        return hashlib.sha256(self.password.encode()).hexdigest()[:32]

    @property
    def standing(self) -> str:
        """A fingerprint of the current password and groups: what a sign-in gave under others is
        invalid."""
        return hashlib.sha256(self._standing().encode()).hexdigest()[:32]

    def _standing(self) -> str:
        return f"{self.password}{self.epoch or ''}"

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """Django's, with the groups: without any change of them, it is the same."""
        salt = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash"
        return salted_hmac(salt, self._standing(), secret=secret, algorithm="sha256").hexdigest()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The grants of this user and of their groups, or what an API key leaves of them; read once
        per user object."""
        if (limits := self.limits) is not None:
            owner = limits.owner
            return limits.narrowed((OF_SUPERUSERS,) if owner.is_superuser else owner.rules)
        if self._stroem_rules is None:
            groups = User.groups.through.objects.filter(user_id=self.pk).values_list("group_id")
            own = models.Q(user=self.pk) | models.Q(group__in=groups)
            self._stroem_rules = tuple(
                rule for rule, _, _ in rules_of(WorkspaceGrant.objects.filter(own))
            )
        return self._stroem_rules

    @property
    def holder(self) -> Holder:
        """This user as `access:` in files knows them; reads their groups once per user object."""
        if self.limits is not None:
            return self.limits.owner.holder
        if self._stroem_holder is None:
            names = frozenset(self.groups.values_list("name", flat=True))
            self._stroem_holder = Holder(self.email.lower(), names, self.is_superuser)
        return self._stroem_holder

    def has_somewhere(self, right: Right) -> bool:
        """Whether a grant gives this right anywhere: for menus and buttons, never to decide."""
        return self.is_superuser or any(
            right in rule.rights and not rule.denies for rule in self.rules
        )

    def __str__(self) -> str:
        return self.email


Person = User | AnonymousUser


def signed_in(user: Person) -> User:
    """The user of a request to a view that requires signing in."""
    assert isinstance(user, User)
    return user


class ServiceAccount(User):
    """A user for programs, on pages of its own."""

    class Meta:
        proxy = True
        verbose_name = "service account"


class Scope(models.TextChoices):
    """What a key may be used for, at most what its owner may do. Running includes reading; `admin`
    is everything."""

    READ = "jobs:read", "jobs:read: see workspaces, tasks, jobs, logs, files"
    RUN = "jobs:run", "jobs:run: also start, cancel and restart jobs, fire and pause triggers"
    DECIDE = "approvals:decide", "approvals:decide: see and decide approvals, also at /mcp"
    ADMIN = "admin", "admin: everything its owner may do, but for deciding at /mcp"


class ApiToken(models.Model):
    """A long-lived key for programs. Only a SHA-256 digest of the random secret is kept; after a
    rotation, that of the one before, too, while it is still good."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=12, unique=True)
    digest = models.CharField(max_length=64, unique=True)
    credential = models.CharField(
        max_length=32, default="", help_text="Mark of the password it was made under"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    scopes = ArrayField(
        models.CharField(max_length=20, choices=Scope),
        default=list,
        db_default=["admin"],
        help_text="Keys from before there were scopes may do everything, as they could",
    )
    workspaces = ArrayField(
        models.CharField(max_length=200),
        default=list,
        db_default=[],
        blank=True,
        help_text="Patterns of names; empty: every workspace that its owner may see",
    )
    previous_digest = models.CharField(max_length=64, null=True, unique=True)
    previous_until = models.DateTimeField(null=True, help_text="Until then the old secret is good")

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer: reads jobs and logs"
    OPERATOR = "operator", "Operator: starts, cancels and re-runs"
    ADMIN = "admin", "Admin: also manages secrets and refreshes the workspace"
    CUSTOM = "custom", "Custom: the rights chosen below"
    DENY = "deny", "Deny: takes away the rights chosen below, or all; wins over every grant"


class WorkspaceGrant(models.Model):
    """A role for one user or group on all workspaces whose name matches `pattern` (wildcard `*`),
    or only on the tasks there whose folder and name match `tasks`."""

    pattern = models.CharField(max_length=200)
    tasks = models.CharField(max_length=400, default=EVERYTHING, db_default=EVERYTHING)
    role = models.CharField(max_length=20, choices=Role)
    rights = ArrayField(
        models.CharField(max_length=10, choices=[(str(right), str(right)) for right in Right]),
        default=list,
        db_default=[],
        blank=True,
        help_text="Of a custom grant, or of a denial",
    )
    user = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.CASCADE, related_name="grants"
    )
    group = models.ForeignKey(
        Group, null=True, blank=True, on_delete=models.CASCADE, related_name="grants"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="accounts_grant_one_holder",
                condition=models.Q(user__isnull=False, group__isnull=True)
                | models.Q(user__isnull=True, group__isnull=False),
            ),
            models.CheckConstraint(
                name="accounts_grant_rights",
                condition=models.Q(role=Role.CUSTOM.value, rights__len__gt=0)
                | models.Q(role=Role.DENY.value)
                | models.Q(role__in=sorted(OF_ROLES), rights__len=0),
            ),
        ]

    def __str__(self) -> str:
        where = self.pattern if self.tasks == EVERYTHING else f"{self.pattern}: {self.tasks}"
        chosen = f" ({', '.join(self.rights)})" if self.rights else ""
        return f"{self.user or self.group}: {self.role}{chosen} on {where}"


def rules_of(grants: models.QuerySet[WorkspaceGrant]) -> list[tuple[Rule, int | None, int | None]]:
    """These grants, each with the id of its user or of its group."""
    columns = grants.order_by("pk").values_list(
        "pk", "pattern", "tasks", "role", "rights", "user__email", "group__name", "user_id",
        "group_id",
    )  # fmt: skip
    return [
        (
            Rule(pk, pattern, _rights_of(role, rights), tasks, role == Role.DENY, held_by),
            user_id,
            group_id,
        )
        for pk, pattern, tasks, role, rights, email, group, user_id, group_id in columns
        for held_by in (email or f"the group {group}",)
    ]


def _rights_of(role: str, chosen: Iterable[str]) -> Rights:
    """What a grant with this role gives, or takes away. Whatever it gives, it shows as well."""
    rights = frozenset(map(Right, chosen))
    if role == Role.DENY:
        return rights or ALL_RIGHTS
    return OF_ROLES.get(role) or rights | {Right.SEE}


class DeviceLogin(models.Model):
    """A program without a browser asks to act for somebody, who confirms its code on a page."""

    digest = models.CharField(max_length=64, unique=True, help_text="Of what the program holds")
    code = models.CharField(max_length=8, unique=True, help_text="What the person types")
    name = models.CharField(max_length=150, help_text="What the program calls itself")
    address = models.CharField(max_length=100, help_text="From where it asked")
    scopes = ArrayField(models.CharField(max_length=20), default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    polled_at = models.DateTimeField(null=True)
    user = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")
    credential = models.CharField(max_length=32, default="", help_text="Mark of their password")
    denied_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.name} from {self.address}"


class RefreshToken(models.Model):
    """One token of a chain that began with a sign-in. Each use issues the next; reuse ends the
    chain."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="refresh_tokens")
    digest = models.CharField(max_length=64, unique=True)
    chain = models.UUIDField(db_index=True)
    credential = models.CharField(
        max_length=32, help_text="Mark of the password and groups that the chain began with"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.user} {self.chain}"


class ConnectedAgent(models.Model):
    """A program that a person let in at /mcp. Its tokens belong to the OAuth library, and are good
    only while this row is there and the person's password and groups stay the same."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="connected_agents")
    grant = models.CharField(max_length=64, unique=True, help_text="As the library names it")
    client_id = models.CharField(max_length=100, db_index=True)
    name = models.CharField(max_length=100, help_text="What the program calls itself")
    credential = models.CharField(
        max_length=32, help_text="Mark of the password and groups under which it was let in"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(help_text="Unless it gets new tokens before")
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "connected agent"

    def __str__(self) -> str:
        return f"{self.name or self.client_id} of {self.user}"


class SpentToken(models.Model):
    """A refresh token that was used: who shows it again has stolen it, or was stolen from."""

    agent = models.ForeignKey(ConnectedAgent, on_delete=models.CASCADE, related_name="spent")
    digest = models.CharField(max_length=64, unique=True)
    used_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.digest


class Alert(models.Model):
    """A mail that somebody is to get about their account; gone once it is sent."""

    email = models.CharField(max_length=254)
    subject = models.CharField(max_length=200)
    body = models.TextField()
    tries = models.PositiveSmallIntegerField(default=0)
    try_at = models.DateTimeField(db_default=Now(), db_index=True)

    def __str__(self) -> str:
        return f"{self.email}: {self.subject}"


class Throttle(models.Model):
    """Attempts since `since`, counted for all server processes. Keys hold digests, not names."""

    key = models.CharField(max_length=100, primary_key=True)
    count = models.PositiveIntegerField()
    since = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.key
