"""Who may decide a request, and by which right. Always read from the database, never cached.

* Approvers, named by e-mail or group or added by the escalation; without any, those with the right
  'approve' on the task. All of them must be able to see the task, and a denial of 'approve' counts
  for those who are named as well.
* A person to whom an approver delegated the decision; meanwhile that approver cannot decide.
* Superusers; the record says if they were not among the approvers.
* With `separation`, nobody who started or restarted the job, superusers included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from apps.accounts import key_scopes
from apps.accounts.models import Person, Role, Scope, User, WorkspaceGrant
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest, Delegation, Vote
from apps.workspaces.rights import NO_INPUTS, sight_if_asked, sight_of
from engine.errors import NotFound
from engine.lifecycle import RequestStatus
from engine.rights import Right as OnTask
from engine.rights import Rights

MOST_TOLD = 100
UNSEEN = "Job not found"
STARTED_IT = "You started this job, so somebody else must decide"
NO_SUMMARY = "what is hidden from you: the right 'inputs' is missing"
DELEGATED = "You delegated this decision to {taker}; take it back first"


@dataclass(frozen=True, slots=True)
class Right:
    """The right by which a person decides, in words for the record."""

    text: str
    is_own: bool = False  # an approver: may delegate


def fresh(user: User) -> User:
    """The same user, read again from the database, without cached grants."""
    found = User.objects.filter(pk=user.pk, is_active=True).first()
    if found is None:
        raise NotFound(UNSEEN)
    return found if user.key is None else key_scopes.acting_with(user.key, found)


def person(email: str) -> User | None:
    """The active user with this e-mail, in any case."""
    return User.objects.with_email(email.replace("\x00", "")).filter(is_active=True).first()


def only_person() -> User | None:
    """Who it is where one person only has an account."""
    people = list(User.objects.filter(is_active=True, is_service=False)[:2])
    return people[0] if len(people) == 1 else None


def right_of(user: User, request: ApprovalRequest) -> Right:
    """The right by which `user` may decide. Raises NotFound if they must not see the request,
    NotAllowed if they may only see it."""
    if not sees(user, request):
        raise NotFound(UNSEEN)
    user = decider(user)
    if is_kept_apart(user, request):
        raise NotAllowed(STARTED_IT)
    delegations = list(Delegation.objects.filter(request=request).select_related("giver", "taker"))
    for delegation in delegations:
        if delegation.giver_id == user.pk:
            raise NotAllowed(DELEGATED.format(taker=delegation.taker.email))
    own = own_right(user, request)
    if own is not None:
        return own
    for delegation in delegations:
        is_taker = delegation.taker_id == user.pk and may_be_asked(user, request)
        if is_taker and is_asked(delegation.giver, request):
            return Right(f"in place of {delegation.giver.email}")
    if user.is_superuser:
        return Right("as superuser, not among those who were asked")
    raise NotAllowed(f"You may not decide this; the approvers are {asked_in_words(request)}")


def decider(user: User) -> User:
    """Whose rights count: of an API key that may decide, those of its owner. Raises NotAllowed."""
    if user.key is None:
        return user
    refusal = key_scopes.lacks(user, [Scope.DECIDE])
    if refusal is not None:
        raise NotAllowed(refusal)
    return user if user.limits is None else user.limits.owner


def right_to_decide(user: User, request: ApprovalRequest) -> Right | None:
    """The right by which `user` could decide, or None."""
    try:
        return right_of(user, request)
    except (NotFound, NotAllowed):
        return None


def why_not(user: User, request: ApprovalRequest) -> str:
    """Why `user` cannot decide; empty if they can."""
    try:
        right_of(user, request)
    except (NotFound, NotAllowed) as error:
        return str(error)
    return ""


def own_right(user: User, request: ApprovalRequest) -> Right | None:
    """The right of an approver, without delegations."""
    if not user.is_active or not may_be_asked(user, request):
        return None
    if user.email.lower() in request.users:
        return Right("asked by name", is_own=True)
    if request.groups:
        groups = sorted(user.holder.groups & set(request.groups))
        if groups:
            return Right(f"as member of {groups[0]}", is_own=True)
    if request.asks_operators and OnTask.APPROVE in rights_on(user, request):
        return Right("as operator", is_own=True)
    return None


def rights_on(user: User, request: ApprovalRequest) -> Rights:
    """On the task that asks."""
    return sight_of(user).on(request.workspace.name, request.task_name)


def sees(user: User, request: ApprovalRequest) -> bool:
    return OnTask.SEE in rights_on(user, request)


def may_be_asked(user: User, request: ApprovalRequest) -> bool:
    """Whether nothing speaks against a decision of somebody who was asked."""
    if user.is_superuser:
        return True
    on_task = sight_if_asked(user).on(request.workspace.name, request.task_name)
    return OnTask.APPROVE in on_task


def may_read(user: User, request: ApprovalRequest) -> bool:
    """Whether they see what is asked, which may quote inputs: those who see inputs, and who
    decides."""
    return OnTask.INPUTS in rights_on(user, request) or own_right(user, request) is not None


def veiled(user: User, request: ApprovalRequest) -> ApprovalRequest:
    """The request as `user` may read it; never saved. Without a query for each."""
    if not may_read(user, request):
        request.message, request.fields = NO_INPUTS, {}
        request.summary = NO_SUMMARY if request.is_of_agent else ""
    return request


def hidden_from(user: User, request: ApprovalRequest) -> str:
    """What of the job is not shown to `user`, who may have to decide without it, and whom to ask;
    empty: nothing."""
    if OnTask.INPUTS in rights_on(user, request):
        return ""
    starter = request.requested_by
    known = [one.giver for one in request.delegations.all() if one.taker_id == user.pk]
    known += [starter] if starter is not None and not starter.is_service else []
    named = list(dict.fromkeys(one.email for one in known if one.pk != user.pk))
    return f"{NO_INPUTS}. Ask {' or '.join([*named, 'an administrator'])}."


def is_asked(user: User, request: ApprovalRequest) -> bool:
    """Whether `user` is an approver who sees the task and may decide despite `separation`."""
    return (
        sees(user, request)
        and not is_kept_apart(user, request)
        and own_right(user, request) is not None
    )


def is_kept_apart(user: User, request: ApprovalRequest) -> bool:
    """Whether `separation` prevents this user from deciding."""
    started = user.pk == request.requested_by_id or user.email.lower() in request.starters
    return request.separation and started


def asked_in_words(request: ApprovalRequest) -> str:
    named = [*request.users, *(f"the group {name}" for name in request.groups)]
    if request.asks_operators:
        named.append(f"the operators of {request.workspace.name}")
    return ", ".join(named) or "nobody"


def people_asked(request: ApprovalRequest) -> list[User]:
    """Users who may decide now, to be notified: at most 100; superusers only if there is nobody
    else."""
    takers = User.objects.filter(pk__in=request.delegations.values("taker"))
    givers = set(request.delegations.values_list("giver_id", flat=True))
    named = User.objects.with_email(*request.users).values("pk")
    asked = Q(pk__in=named) | Q(groups__name__in=request.groups)
    if request.asks_operators:
        asked |= Q(pk__in=_operators())
    own = User.objects.filter(asked, is_active=True, is_service=False).distinct().order_by("pk")
    able = (
        user
        for user in (*takers, *own)
        if user.pk not in givers and right_to_decide(user, request) is not None
    )
    found = list(islice(able, MOST_TOLD))
    if not found:
        superusers = User.objects.filter(is_superuser=True, is_active=True).order_by("pk")
        found = [user for user in superusers if not is_kept_apart(user, request)]
    return list({user.pk: user for user in found}.values())[:MOST_TOLD]


def _operators() -> Iterable[int]:
    """Ids of users with the right anywhere, by a grant of their own or of a group; callers check
    the task of each."""
    chosen = Q(role=Role.CUSTOM, rights__contains=[OnTask.APPROVE])
    rows = WorkspaceGrant.objects.filter(chosen | Q(role__in=(Role.OPERATOR, Role.ADMIN)))
    users = set(rows.filter(user__isnull=False).values_list("user_id", flat=True))
    members = rows.filter(group__isnull=False).values_list("group_id", flat=True)
    users |= set(User.objects.filter(groups__in=list(members)).values_list("pk", flat=True))
    return users


# As a query


def waiting_for(user: Person) -> QuerySet[ApprovalRequest]:
    """Open requests that `user` may decide and has not voted on: the inbox and its badge."""
    if not isinstance(user, User):
        return ApprovalRequest.objects.none()
    visibly_open = ApprovalRequest.objects.filter(sight_of(user).tasks(), status=RequestStatus.OPEN)
    owner = user if user.limits is None else user.limits.owner
    asked = visibly_open.filter(_asks(owner)).exclude(_is_kept_from(user))
    return asked.filter(~_has_voted(user))


def open_of(job_id: UUID) -> QuerySet[ApprovalRequest]:
    """The open requests of a job, whoever may decide them, oldest first, with their votes;
    `asked_at` is now."""
    rows = ApprovalRequest.objects.filter(job_id=job_id, status=RequestStatus.OPEN)
    known = rows.select_related("workspace").prefetch_related("votes").annotate(asked_at=Now())
    return known.order_by("created_at", "id")


def _asks(user: User) -> Q:
    """Requests to this user by name, group, role or delegation, without those they delegated."""
    delegations = Delegation.objects.filter(request=OuterRef("pk"))
    if_asked = sight_if_asked(user).tasks(OnTask.APPROVE)
    groups = sorted(user.holder.groups)
    named = Q(users__contains=[user.email.lower()]) | Q(groups__overlap=groups)
    own = (named & if_asked) | (Q(asks_operators=True) & sight_of(user).tasks(OnTask.APPROVE))
    has_delegated = Exists(delegations.filter(giver_id=user.pk))
    is_delegate = Exists(delegations.filter(taker_id=user.pk))
    return (own & ~Q(has_delegated)) | (Q(is_delegate) & if_asked)


def _is_kept_from(user: User) -> Q:
    return Q(separation=True) & (
        Q(requested_by=user.pk) | Q(starters__contains=[user.email.lower()])
    )


def _has_voted(user: User) -> Q:
    return Q(Exists(Vote.objects.filter(request=OuterRef("pk"), user_id=user.pk)))
