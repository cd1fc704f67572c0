"""The inbox and the page where people decide. The rules are in `services`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from apps.accounts.models import signed_in
from apps.adminkit import panels
from apps.adminkit.badges import badge
from apps.adminkit.counted import CountedFilter
from apps.adminkit.markdown import first_line
from apps.adminkit.paging import Beginning, BoundedPaginator
from apps.adminkit.templatetags.adminkit import moment
from apps.adminkit.typed_forms import TypedForm
from apps.approvals import answers, delegations, rights, services
from apps.approvals.audit_page import RecordAdmin
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest, Record, Vote
from apps.approvals.transitions import Caller
from apps.approvals.views import SESSION_KEY
from apps.jobs.flow import blueprints
from apps.jobs.pages.job import job_url
from apps.workspaces.explaining import who_has
from apps.workspaces.rights import NO_INPUTS, sight_of
from apps.workspaces.scoped import ScopedAdmin
from engine.errors import InputError, NotFound, StroemError
from engine.lifecycle import RequestStatus, StepStatus
from engine.rights import Right

MOST_RECORDS = 200
MOST_REQUESTS = 100
MOST_CALLS = 10  # banners on a job's page
COUNTED = "Your approval counts; more are needed."
REFUSED = "Refused: the agent reads your reason and goes on."
DONE = {  # by what the request is about, and its status then
    "step": {
        RequestStatus.APPROVED: "Approved: the job continues.",
        RequestStatus.REJECTED: "Rejected: the step has failed with your reason.",
        StepStatus.SUSPENDED: COUNTED,
    },
    "call": {
        RequestStatus.APPROVED: "Approved: the agent makes the call.",
        RequestStatus.REJECTED: REFUSED,
        StepStatus.SUSPENDED: COUNTED,
    },
    "question": {
        RequestStatus.APPROVED: "Answered: the agent goes on.",
        RequestStatus.REJECTED: REFUSED,
        StepStatus.SUSPENDED: COUNTED,
    },
    "limit": {
        RequestStatus.APPROVED: "Approved: the agent goes on, with as much again.",
        RequestStatus.REJECTED: "Refused: the step fails with your reason.",
        StepStatus.SUSPENDED: COUNTED,
    },
}


def waiting_for_me(request: HttpRequest) -> str:
    """How many requests wait for the user, for the side bar; empty for none."""
    count = rights.waiting_for(request.user).count()
    return str(count) if count else ""


class InboxFilter(CountedFilter):
    title = "box"
    parameter_name = "box"
    unset = "waiting for me"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "all open"), ("closed", "decided"), ("all", "all")]

    def chosen(
        self, rows: QuerySet[ApprovalRequest], value: str | None, request: HttpRequest
    ) -> QuerySet[ApprovalRequest]:
        match value:
            case "all":
                return rows
            case "open":
                return rows.filter(status=RequestStatus.OPEN)
            case "closed":
                return rows.exclude(status=RequestStatus.OPEN)
        if request.GET.get("job"):
            return rows
        return rows.filter(pk__in=rights.waiting_for(request.user).values("pk"))


class JobFilter(admin.SimpleListFilter):
    """`?job=ID`, as the address that hooks receive says."""

    title = "job"
    parameter_name = "job"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        value = request.GET.get("job")
        return [(value, value[:8])] if value else []

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ApprovalRequest]
    ) -> QuerySet[ApprovalRequest]:
        try:
            return queryset.filter(job_id=UUID(self.value())) if self.value() else queryset
        except ValueError:
            return queryset.none()


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(ScopedAdmin[ApprovalRequest]):
    list_display = ("state", "what", "workspace_name", "progress", "created", "deadline")
    list_filter = (InboxFilter, JobFilter)
    search_fields = ("task_name", "step_name")
    search_help_text = "Task or step"
    when_empty = "Nothing waits for your decision."
    ordering = ("-created_at", "-id")
    list_per_page = 50
    paginator = BoundedPaginator
    list_fullwidth = True
    list_before_template = "adminkit/list_tabs.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApprovalRequest]:
        return (
            super()
            .get_queryset(request)
            .select_related("workspace")
            .prefetch_related("votes")
            .defer("fields")
        )

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        found = super().get_changelist_instance(request)
        user = signed_in(request.user)
        found.result_list = [rights.veiled(user, row) for row in found.result_list]
        return found

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Callable[..., HttpResponse]) -> URLPattern:
            wrapped: Callable[..., HttpResponseBase] = self.admin_site.admin_view(
                require_POST(view)
            )
            return path(
                f"<int:request_id>/{route}/", wrapped, name=f"approvals_{route.replace('-', '_')}"
            )

        return [
            page("decide", decide_view),
            page("withdraw", withdraw),
            page("delegate", delegate),
            page("take-back", take_back),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if not (object_id.isascii() and object_id.isdigit()) or len(object_id) > 18:
            raise Http404
        return _page(request, _found(request, int(object_id)))

    @admin.display(description="status")
    def state(self, row: ApprovalRequest) -> SafeString:
        return badge(row.status)

    @admin.display(description="request")
    def what(self, row: ApprovalRequest) -> SafeString:
        return format_html(
            '<div><a class="st-strong" href="{}">{}</a> <span class="st-id">{}</span>'
            '<div class="st-help st-clip">{}</div></div>',
            page_of(row.pk),
            row.task_name,
            row.step_name,
            (row.told or first_line(row.message))[:160],
        )

    @admin.display(description="workspace")
    def workspace_name(self, row: ApprovalRequest) -> str:
        return row.workspace.name

    @admin.display(description="approvals")
    def progress(self, row: ApprovalRequest) -> str:
        return f"{row.given} of {row.min_approvals}"

    @admin.display(description="asked", ordering="created_at")
    def created(self, row: ApprovalRequest) -> SafeString | str:
        return moment(row.created_at)

    @admin.display(description="due")
    def deadline(self, row: ApprovalRequest) -> SafeString | str:
        return moment(row.deadline_at) if row.is_open else moment(row.closed_at)


def page_of(request_id: int) -> str:
    return reverse("admin:approvals_approvalrequest_change", args=[request_id])


def _found(request: HttpRequest, request_id: int) -> ApprovalRequest:
    rows = ApprovalRequest.objects.select_related("workspace", "job", "requested_by")
    mine = rows.filter(sight_of(request.user).tasks(), pk=request_id)
    found = mine.defer("job__input_sealed").first()
    if found is None:
        raise Http404("There is no such request, or you may not see it.")
    return found


def _form(found: ApprovalRequest, data: Any = None) -> TypedForm:
    """The form declared by the action, filled in with the values of earlier approvals."""
    votes = found.votes.filter(approved=True).order_by("pk")
    first = next((vote for vote in votes if vote.input is not None), None)
    fields = _fields(found)
    chosen = {
        name: field.default
        for name, field in fields.items()
        if field.default is not None and not field.has_default  # by a model
    }
    return TypedForm(fields, data, before=first.input if first else chosen or None)


def _fields(found: ApprovalRequest) -> Any:
    base = found.step_name.partition("[")[0]
    node = blueprints.load(found.job.blueprint_id).nodes.get(base)
    if node is None:
        return {}
    is_own = node.action.type == services.OWN_KIND
    return node.action.input if is_own else answers.fields_of(found)


def _page(
    request: HttpRequest, found: ApprovalRequest, form: TypedForm | None = None, reason: str = ""
) -> HttpResponse:
    user = signed_in(request.user)
    votes = list(Vote.objects.filter(request=found).select_related("user").order_by("pk"))
    form = form or _form(found)
    right = rights.right_to_decide(user, found) if found.is_open else None
    if right is None:
        rights.veiled(user, found)
    delegations = list(found.delegations.select_related("giver", "taker").order_by("pk"))
    mine = [delegation for delegation in delegations if delegation.giver_id == user.pk]
    has_voted = any(vote.user_id == user.pk for vote in votes)
    context = {
        **admin.site.each_context(request),
        "title": f"{found.task_name}: {found.step_name}",
        "crumbs": [("Approvals", reverse("admin:approvals_approvalrequest_changelist"))],
        "found": found,
        "form": form,
        "is_read": found.message != NO_INPUTS,
        "hidden": rights.hidden_from(user, found),
        "reason": reason,
        "right": right,
        "why_not": rights.why_not(user, found) if found.is_open and right is None else "",
        "may_decide": right is not None and not has_voted,
        "may_withdraw": found.is_open and has_voted,
        "may_delegate": right is not None and right.is_own and not has_voted and not mine,
        "delegated": mine[0] if mine and found.is_open else None,
        "colleagues": _colleagues(request, found) if right is not None and right.is_own else (),
        "votes": votes,
        "delegations": delegations,
        "asked": rights.asked_in_words(found),
        "records": Beginning(
            Record.objects.filter(request_id=found.pk).order_by("id"), MOST_RECORDS
        ),
        "opts": ApprovalRequest._meta,
    }
    return render(request, "approvals/request.html", context)


def _colleagues(request: HttpRequest, found: ApprovalRequest) -> list[str]:
    """E-mails to suggest, of those who see the task; whether a person may decide is checked
    when delegating."""
    me = signed_in(request.user).pk
    people = who_has(found.workspace, found.task_name, Right.SEE)
    return [person.email for person in people if person.is_staff and person.pk != me][:200]


def _caller(request: HttpRequest, found: ApprovalRequest) -> Caller:
    via = "link" if found.pk in request.session.get(SESSION_KEY, ()) else "admin"
    return Caller(signed_in(request.user), via, str(request.META.get("REMOTE_ADDR", "")))


def decide_view(request: HttpRequest, request_id: int) -> HttpResponse:
    found = _found(request, request_id)
    approved = request.POST.get("decision") == "approve"
    if not approved and request.POST.get("decision") != "reject":
        raise Http404
    reason = request.POST.get("reason", "").replace("\r\n", "\n").replace("\x00", "").strip()
    given = _form(found, request.POST).given() if approved and _fields(found) else None
    try:
        decided = services.decide(
            found.pk,
            _caller(request, found),
            approved=approved,
            given=given,
            reason="" if approved else reason,
            shown=request.POST.get("shown") or None,
        )
    except InputError as error:
        form = _form(found, request.POST)
        form.refuse(error)
        return _page(request, found, form, reason)
    except NotAllowed as error:
        raise PermissionDenied(str(error)) from error
    except NotFound as error:
        raise Http404(str(error)) from error
    except StroemError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, DONE[found.about][decided.status])
        if request.POST.get("back") == "job":
            return redirect(f"{job_url(found.job_id)}#step={found.step_id}")
    return redirect(page_of(found.pk))


def withdraw(request: HttpRequest, request_id: int) -> HttpResponse:
    return _try(request, request_id, services.withdraw, "Your approval has been withdrawn.")


def delegate(request: HttpRequest, request_id: int) -> HttpResponse:
    to = request.POST.get("to", "").strip()
    service = partial(delegations.delegate, to=to)
    return _try(request, request_id, service, f"{to} now decides in your place.")


def take_back(request: HttpRequest, request_id: int) -> HttpResponse:
    return _try(request, request_id, delegations.take_back, "The decision is yours again.")


def _try(
    request: HttpRequest, request_id: int, service: Callable[[int, Caller], object], done: str
) -> HttpResponse:
    found = _found(request, request_id)
    try:
        service(found.pk, _caller(request, found))
    except NotAllowed as error:
        raise PermissionDenied(str(error)) from error
    except StroemError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, done)
    return redirect(page_of(found.pk))


def step_panel(request: HttpRequest, job: Any, step: Any) -> dict[str, Any] | None:
    """Job page: links from a step to its requests, the newest first."""
    if step.kind not in services.ASKING_KINDS:
        return None
    asked = ApprovalRequest.objects.filter(step_id=step.pk).order_by("-fence")
    rows = _told(request, asked, MOST_CALLS)
    return {"requests": rows, "job": job_url(job.pk)} if rows else None


def inbox_panel(request: HttpRequest) -> dict[str, Any]:
    """Dashboard: requests that wait for the user."""
    rows = rights.waiting_for(request.user).select_related("workspace").order_by("created_at")
    user = signed_in(request.user)
    shown = [rights.veiled(user, row) for row in rows.defer("fields")[:8]]
    return {"requests": shown, "count": rows.count()}


def job_panel(request: HttpRequest, job: Any) -> dict[str, Any] | None:
    """Job page: its requests, open ones first; an agent's question can be answered there."""
    newest = F("closed_at").desc(nulls_first=True), "-id"
    asked = ApprovalRequest.objects.filter(job_id=job.pk)
    rows = _told(request, asked.order_by(*newest), MOST_REQUESTS)
    if not rows:
        return None
    calls = [row for row in rows if row[0].is_open]
    waiting = asked.filter(status=RequestStatus.OPEN).count() if rows.has_more else len(calls)
    return {
        "requests": rows,
        "calls": [(*row, _may_answer(request, row[0])) for row in calls[:MOST_CALLS]],
        "more_calls": waiting - MOST_CALLS,
        "job": job.pk,
    }


def _may_answer(request: HttpRequest, found: ApprovalRequest) -> bool:
    """Whether this is a question to the user that they can read here, with one field for the
    answer."""
    user = signed_in(request.user)
    if not found.is_question or found.message == NO_INPUTS:
        return False
    if any(vote.user_id == user.pk for vote in found.votes.all()):
        return False
    return rights.right_to_decide(user, found) is not None


def _told(
    request: HttpRequest, rows: QuerySet[ApprovalRequest], most: int
) -> Beginning[tuple[ApprovalRequest, str]]:
    """Requests as the caller may read them, with the approvers in words."""
    user = signed_in(request.user)
    found = rows.select_related("workspace").prefetch_related("votes")[: most + 1]
    told = [(rights.veiled(user, row), rights.asked_in_words(row)) for row in found]
    return Beginning(told, most)


admin.site.register(Record, RecordAdmin)
panels.dashboard.add("approvals/inbox_panel.html", inbox_panel, order=10, is_wide=True)
panels.job_page.add("approvals/job_panel.html", job_panel, order=10)
panels.step_page.add("approvals/step_panel.html", step_panel, order=10)
