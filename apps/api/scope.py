"""What a user may reach. Views get rows only from here, so that none skips the check.

What the user must not see is answered as if it did not exist; what they may see but not do, with
403.
"""

from __future__ import annotations

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from rest_framework.exceptions import ParseError

from apps.accounts.models import ApiToken, ConnectedAgent, Person, User, signed_in
from apps.fleet.models import Worker
from apps.jobs.log.cursors import EVERYTHING, Choice, Whose
from apps.jobs.models import Job, Step
from apps.subscriptions.models import Subscription
from apps.triggers.models import Trigger
from apps.workspaces.models import Secret, Workspace
from apps.workspaces.revisions import definition_of
from apps.workspaces.rights import NO_SUBSCRIPTIONS, NOT_WHOLE, insist, sight_of, workspaces_of
from engine.errors import NotFound
from engine.rights import Right, Rights

DENIED = "Permission denied"
SERVER = "_server"  # names the server's lines of a log
LONGEST_ID = 18  # digits that fit the database's integers


def workspaces(user: Person) -> QuerySet[Workspace]:
    return workspaces_of(user).order_by("name")


def workspace(
    user: Person, name: str, needed: Right | None = None, *, refusal: str = ""
) -> Workspace:
    """The workspace of this name, of which `user` sees something, with the right `needed` on the
    whole of it. Raises NotFound, PermissionDenied."""
    row = (
        Workspace.objects.select_related("current")
        .defer("current__definition")
        .filter(name=name)
        .first()
    )
    sight = sight_of(user)
    if row is None or not sight.sees(name):
        raise NotFound(f"Workspace '{name}' not found")
    if needed is not None:
        insist(sight.on(name), needed, refusal or DENIED)
    return row


def whole(user: Person, name: str, needed: Right = Right.SEE) -> Workspace:
    """The workspace, if `user` may see every task of it and has the right `needed` on the whole.
    Raises NotFound, PermissionDenied."""
    row = workspace(user, name)
    if not sight_of(user).is_whole(name):
        raise PermissionDenied(NOT_WHOLE)
    insist(sight_of(user).on(name), needed, DENIED)
    return row


def task(
    user: Person, owner: str, name: str, needed: Right = Right.SEE, *, refusal: str = ""
) -> Workspace:
    """The workspace of a task that `user` may see, if there is one; whether its files have the task
    is for the caller to find out. Raises NotFound, PermissionDenied."""
    row = workspace(user, owner)
    rights = sight_of(user).on(owner, name)
    if Right.SEE not in rights:
        raise NotFound("Task not found")
    insist(rights, needed, refusal or DENIED)
    return row


def known_task(user: Person, owner: str, name: str) -> Workspace:
    """The workspace of a task that its files have, or that has left jobs in former days. Raises
    NotFound."""
    row = task(user, owner, name)
    known = definition_of(row.current_id).tasks if row.current_id else {}
    if name not in known and not Job.objects.filter(workspace=row, task_name=name).exists():
        raise NotFound("Task not found")
    return row


def rights(user: Person, row: Job) -> Rights:
    """On a job that came with its workspace."""
    return sight_of(user).on(row.workspace.name, row.task_name)


def removable_workspace(user: Person, name: str) -> Workspace:
    """Only superusers may remove one: nobody else can import it again."""
    row = workspace(user, name)
    if not user.is_superuser:
        raise PermissionDenied("Only superusers may remove a workspace")
    return row


def jobs(user: Person) -> QuerySet[Job]:
    return Job.objects.filter(sight_of(user).tasks())


def listed_jobs(user: Person, name: str | None) -> QuerySet[Job]:
    """The same, or those of one workspace, by its id: so that a list of very many comes out of an
    index. Raises NotFound."""
    named = {} if name is None else {"workspace_id": workspace(user, name).pk}
    return jobs(user).filter(**named)


def job(user: Person, text: str, needed: Right = Right.SEE, *, refusal: str = "") -> Job:
    """The job with this id. Raises ParseError for an invalid id, NotFound, PermissionDenied."""
    job_id = uuid_of(text, "Invalid job ID")
    row = Job.objects.select_related("workspace").filter(pk=job_id).first()
    if row is None or Right.SEE not in (held := rights(user, row)):
        raise NotFound("Job not found")
    insist(held, needed, refusal)
    return row


def steps(user: Person) -> QuerySet[Step]:
    return Step.objects.filter(
        sight_of(user).tasks(workspace="job__workspace", task="job__task_name")
    )


def spending(user: Person, workspace_name: str | None) -> Q:
    """A condition for what agents have cost, everywhere or in one workspace. Raises NotFound."""
    seen = sight_of(user).named_tasks()
    if workspace_name is None:
        return seen
    return seen & Q(workspace=workspace(user, workspace_name).name)


def triggers(user: Person) -> QuerySet[Trigger]:
    rows = Trigger.objects.filter(sight_of(user).tasks(task="task"))
    return rows.select_related("workspace").order_by("workspace__name", "name")


def trigger(user: Person, owner: str, name: str, needed: Right = Right.SEE) -> Trigger:
    """The trigger of this name, with the rights of the task that it starts. Raises NotFound,
    PermissionDenied."""
    row = workspace(user, owner)
    found = triggers(user).filter(workspace=row, name=name).first()
    if found is None:
        raise NotFound("Trigger not found")
    insist(sight_of(user).on(owner, found.task), needed, DENIED)
    return found


def workers() -> QuerySet[Worker]:
    """Every signed-in user sees every worker; the steps it runs are filtered as always."""
    return Worker.objects.order_by("-started_at", "id")


def stored_secrets(row: Workspace) -> QuerySet[Secret]:
    """Secrets of a workspace that `workspace(..., Right.SECRETS)` returned."""
    return Secret.objects.filter(workspace=row).order_by("name")


def subscribable(user: Person, name: str) -> Workspace:
    """The workspace, if `user` may have others told of its jobs. Raises NotFound,
    PermissionDenied."""
    row = workspace(user, name)
    if not sight_of(user).may_subscribe(name):
        raise PermissionDenied(NO_SUBSCRIPTIONS)
    return row


def subscriptions(row: Workspace) -> QuerySet[Subscription]:
    """Those of a workspace that `subscribable` returned."""
    rows = Subscription.objects.filter(workspace=row).select_related("workspace")
    return rows.defer("sealed_secret", "sealed_previous").order_by("name")


def subscription(user: Person, owner: str, name: str) -> Subscription:
    """For those who may have others told. Raises NotFound, PermissionDenied."""
    found = subscriptions(subscribable(user, owner)).filter(name=name).first()
    if found is None:
        raise NotFound("Subscription not found")
    return found


def api_keys(user: Person) -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(user=signed_in(user)).order_by("-created_at")


def api_key(user: User, prefix: str) -> ApiToken:
    """The key of this user. Raises NotFound."""
    row = ApiToken.objects.filter(user=user, prefix=prefix).select_related("user").first()
    if row is None:
        raise NotFound("API key not found")
    return row


def service_accounts() -> QuerySet[User]:
    """For views of administrators."""
    return User.objects.filter(is_service=True).order_by("email")


def service_account(name: str) -> User:
    """Raises NotFound."""
    row = service_accounts().filter(first_name=name).first()
    if row is None:
        raise NotFound("Service account not found")
    return row


def connected_agents(user: Person) -> QuerySet[ConnectedAgent]:
    return ConnectedAgent.objects.filter(user=signed_in(user)).order_by("-created_at")


def people() -> QuerySet[User]:
    """For views of administrators."""
    return User.objects.filter(is_service=False).order_by("email")


def person(text: str) -> User:
    """The user with this id. Raises ParseError and NotFound."""
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_ID):
        raise ParseError("Invalid user ID")
    row = people().prefetch_related("groups").filter(pk=int(text)).first()
    if row is None:
        raise NotFound("User not found")
    return row


def uuid_of(text: str, refusal: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ParseError(refusal) from None


def part_of_log(row: Job, step: str) -> Choice:
    """The lines of this step, of the server, or all without a name. Raises NotFound."""
    if step == SERVER:
        return Choice(Whose.SERVER)
    if not step:
        return EVERYTHING
    steps = Step.objects.filter(job_id=row.pk, name=step)
    ids = list(steps.values_list("pk", flat=True))
    if not ids:
        raise NotFound("Step not found")
    return Choice.of(Whose.STEP, *ids)
