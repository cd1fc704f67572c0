"""Whom a provider's word lets in, and as whom: links, new accounts, groups."""

from __future__ import annotations

from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from apps.accounts import alerts
from apps.accounts.models import User
from apps.audit.services import changes_of, note
from apps.signin.errors import NotAdmitted
from apps.signin.identity import Identity, groups_here
from apps.signin.offered import Named
from apps.signin.providers import IdentityProvider


def admit(provider: Named, identity: Identity) -> User:
    """The account of this person, with the groups that the provider says. Raises NotAdmitted, with
    a sentence for them."""
    try:
        return _admitted(provider, identity)
    except IntegrityError:  # the same person arrived twice at once
        return _admitted(provider, identity)


def _admitted(provider: Named, identity: Identity) -> User:
    with transaction.atomic():
        user = _linked(provider, identity)
        if not user.is_active or not user.is_staff or user.is_service:
            raise NotAdmitted(f"The account {user.email} may not open the pages of this server.")
        if (why := refusal(provider.settings, identity)) is not None:
            raise NotAdmitted(why)
        follow(user, provider.settings, identity)
    return User.objects.get(pk=user.pk)  # the database counts changes of groups


def refusal(settings: IdentityProvider, identity: Identity) -> str | None:
    """Why nobody with these groups may come in."""
    if not settings.required_groups or identity.wears(settings.required_groups):
        return None
    return "You are in none of the groups that may use this server."


def follow(user: User, settings: IdentityProvider, identity: Identity) -> None:
    """Groups here become those that the provider says: without asking it, none change."""
    if identity.groups is None:
        return
    before = _told(user)
    wanted = _groups(groups_here(identity, settings), settings)
    user.groups.set(wanted)
    if settings.admin_groups and user.is_superuser != identity.wears(settings.admin_groups):
        user.is_superuser = not user.is_superuser
        user.save(update_fields=["is_superuser"])
    if changes := changes_of(before, _told(user)):
        note("user.change", user.email, changes=changes, detail="as the identity provider says")


def _told(user: User) -> dict[str, Any]:
    groups = sorted(user.groups.values_list("name", flat=True))
    return {"groups": groups, "is_superuser": user.is_superuser}


def _groups(names: frozenset[str], settings: IdentityProvider) -> list[Group]:
    """Those of the settings are made when somebody has them; others must be there already, as a
    provider knows hundreds that mean nothing here."""
    ours = names & {*settings.groups.values(), *settings.default_groups}
    made = [Group.objects.get_or_create(name=name)[0] for name in sorted(ours)]
    return made + list(Group.objects.filter(name__in=names - ours))


def _linked(provider: Named, identity: Identity) -> User:
    known = SocialAccount.objects.select_related("user").filter(
        provider=provider.name, uid=identity.subject
    )
    if (found := known.first()) is not None:
        user: User = found.user
        return user
    user = _by_email(provider, identity) or _new(provider, identity)
    SocialAccount.objects.create(provider=provider.name, uid=identity.subject, user=user)
    who = identity.email or identity.name or identity.subject
    note("social-account.add", user.email, by=user.email, detail=f"{provider.name}: {who}")
    what = f"Whoever signs in at {provider.title} as {alerts.quoted(who)} now comes in as you."
    alerts.tell(user, f"Your account is linked to {provider.title}", what, by=user.email)
    return user


def _by_email(provider: Named, identity: Identity) -> User | None:
    user = User.objects.with_email(identity.email).first() if identity.email else None
    if user is None:
        return None
    if not provider.settings.link_by_email:
        raise NotAdmitted(
            f"The account {user.email} here is not linked to {provider.title}. Sign in another way,"
            " or ask an administrator."
        )
    if not identity.is_email_verified:
        raise NotAdmitted(
            f"{provider.title} does not say that {identity.email} is your address (verified)."
        )
    if SocialAccount.objects.filter(user=user).exists():
        raise NotAdmitted(f"The account {user.email} is linked to somebody else already.")
    return user


def _new(provider: Named, identity: Identity) -> User:
    settings = provider.settings
    if not settings.allow_sign_up:
        who = identity.email or identity.name or identity.subject
        raise NotAdmitted(f"{who} has no account here. Ask an administrator to make one.")
    try:
        validate_email(identity.email)
    except ValidationError:
        raise NotAdmitted(f"{provider.title} does not tell your e-mail address.") from None
    if not identity.is_email_verified:
        raise NotAdmitted(
            f"{provider.title} does not say that {identity.email} is your address (verified)."
        )
    if (why := refusal(settings, identity)) is not None:
        raise NotAdmitted(why)
    user = User.objects.create_user(identity.email, first_name=identity.name)
    note("user.add", user.email, detail=f"signed up by {provider.name}")
    if settings.default_groups and identity.groups is None:
        user.groups.set(_groups(frozenset(settings.default_groups), settings))
    return user
