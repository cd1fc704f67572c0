"""Which approval requests somebody sees, and which of them wait for that person."""

from __future__ import annotations

from typing import Self

from django.apps import apps
from django.db import models
from django.db.models import Exists, OuterRef, Q

from apps.accounts.grants import NOTHING, Person, visible
from apps.accounts.models import Role
from engine.lifecycle import RequestStatus


class ApprovalRequestQuerySet(models.QuerySet):  # type: ignore[type-arg]  (a class at run time takes no argument)
    def open(self) -> Self:
        return self.filter(status=RequestStatus.OPEN)

    def waiting_for(self, user: Person) -> Self:
        """Open requests that ask `user` and that this user has not voted on yet: the inbox, and its
        badge."""
        return (
            self.open()
            .filter(visible(user, "workspace__name"))
            .filter(_asks(user))
            .exclude(_is_kept_from(user))
            .filter(~_has_voted(user))
        )


def _asks(user: Person) -> Q:
    """By name, by group, by role, or by somebody who handed it on; and not handed on to somebody
    else."""
    if not user.is_authenticated:
        return NOTHING
    delegations = apps.get_model("approvals", "Delegation").objects.filter(request=OuterRef("pk"))
    groups = list(user.groups.values_list("name", flat=True))
    own = Q(users__contains=[user.email.lower()]) | Q(groups__overlap=groups)
    own |= Q(asks_operators=True) & visible(user, "workspace__name", Role.OPERATOR)
    handed_on = Exists(delegations.filter(giver_id=user.pk))
    handed_over = Exists(delegations.filter(taker_id=user.pk))
    return (own & ~Q(handed_on)) | Q(handed_over)


def _is_kept_from(user: Person) -> Q:
    return Q(separation=True) & (
        Q(requested_by=user.pk) | Q(starters__contains=[getattr(user, "email", "").lower()])
    )


def _has_voted(user: Person) -> Q:
    votes = apps.get_model("approvals", "Vote").objects.filter(
        request=OuterRef("pk"), user_id=user.pk
    )
    return Q(Exists(votes))
