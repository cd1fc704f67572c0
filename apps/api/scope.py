"""What a user may reach. Views get rows only from here, so that none skips the check.

What the user must not see is answered as if it did not exist; what they may see but not do, with
403.
"""

from __future__ import annotations

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from rest_framework.exceptions import ParseError

from apps.accounts.grants import Person, allows, role_on, signed_in, visible
from apps.accounts.models import ApiToken, ConnectedAgent, Role, User
from apps.fleet.models import Worker
from apps.jobs.models import Job, Step
from apps.subscriptions.models import Subscription
from apps.triggers.models import Trigger
from apps.workspaces.models import Secret, Workspace
from engine.errors import NotFound

LONGEST_ID = 18  # digits that fit the database's integers


def workspaces(user: Person) -> QuerySet[Workspace]:
    return Workspace.objects.visible_to(user).order_by("name")


def workspace(
    user: Person, name: str, needed: Role = Role.VIEWER, *, refusal: str = "Permission denied"
) -> Workspace:
    """The workspace of this name. Raises NotFound, or PermissionDenied if `user` may only see
    it."""
    role = role_on(user, name)
    row = (
        Workspace.objects.select_related("current")
        .defer("current__definition")
        .filter(name=name)
        .first()
    )
    if row is None or role is None:
        raise NotFound(f"Workspace '{name}' not found")
    if not allows(role, needed):
        raise PermissionDenied(refusal)
    return row


def removable_workspace(user: Person, name: str) -> Workspace:
    """Only superusers may remove one: nobody else can import it again."""
    row = workspace(user, name)
    if not user.is_superuser:
        raise PermissionDenied("Only superusers may remove a workspace")
    return row


def jobs(user: Person) -> QuerySet[Job]:
    return Job.objects.filter(visible(user, "workspace__name"))


def listed_jobs(user: Person, workspace: str | None) -> QuerySet[Job]:
    """The same, or those of one workspace, by the ids of workspaces: so that a list of very many
    comes out of an index."""
    if workspace is None and not visible(user):  # no condition: everything
        return jobs(user)
    rows = workspaces(user) if workspace is None else workspaces(user).filter(name=workspace)
    return Job.objects.filter(workspace_id__in=list(rows.values_list("pk", flat=True)))


def job(
    user: Person, text: str, needed: Role = Role.VIEWER, *, refusal: str = "Permission denied"
) -> Job:
    """The job with this id. Raises ParseError for an invalid id, NotFound, PermissionDenied."""
    job_id = uuid_of(text, "Invalid job ID")
    row = jobs(user).select_related("workspace").filter(pk=job_id).first()
    if row is None:
        raise NotFound("Job not found")
    if not allows(role_on(user, row.workspace.name), needed):
        raise PermissionDenied(refusal)
    return row


def steps(user: Person) -> QuerySet[Step]:
    return Step.objects.filter(visible(user, "job__workspace__name"))


def spending(user: Person, workspace_name: str | None) -> Q:
    """A condition for what agents have cost, everywhere or in one workspace. Raises NotFound."""
    if workspace_name is None:
        return visible(user, "workspace")
    return Q(workspace=workspace(user, workspace_name).name)


def triggers(user: Person) -> QuerySet[Trigger]:
    rows = Trigger.objects.visible_to(user).select_related("workspace")
    return rows.order_by("workspace__name", "name")


def trigger(user: Person, owner: str, name: str, needed: Role = Role.VIEWER) -> Trigger:
    """The trigger of this name. Raises NotFound, PermissionDenied."""
    row = workspace(user, owner, needed)
    found = triggers(user).filter(workspace=row, name=name).first()
    if found is None:
        raise NotFound("Trigger not found")
    return found


def workers() -> QuerySet[Worker]:
    """Every signed-in user sees every worker; the steps it runs are filtered as always."""
    return Worker.objects.order_by("-started_at", "id")


def stored_secrets(row: Workspace) -> QuerySet[Secret]:
    """Secrets of a workspace that `workspace(..., Role.ADMIN)` returned."""
    return Secret.objects.filter(workspace=row).order_by("name")


def subscriptions(row: Workspace) -> QuerySet[Subscription]:
    """Those of a workspace that `workspace(..., Role.ADMIN)` returned."""
    rows = Subscription.objects.filter(workspace=row).select_related("workspace")
    return rows.defer("sealed_secret", "sealed_previous").order_by("name")


def subscription(user: Person, owner: str, name: str) -> Subscription:
    """For administrators of the workspace. Raises NotFound, PermissionDenied."""
    found = subscriptions(workspace(user, owner, Role.ADMIN)).filter(name=name).first()
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
