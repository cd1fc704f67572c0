"""The pages of triggers: what fires when, what became of it, and the buttons to pause and fire."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from apps.accounts.models import signed_in
from apps.adminkit.badges import badge
from apps.adminkit.templatetags.adminkit import moment
from apps.jobs.models import Job
from apps.triggers import abroad, hooks, services, transitions
from apps.triggers.models import Delivery, Firing, Trigger
from apps.triggers.snapshots import veiled, veiled_trigger, with_sources
from apps.workspaces.rights import NO_INPUTS, sight_of
from apps.workspaces.scoped import ScopedAdmin
from engine.durations import describe
from engine.errors import NotFound, StroemError
from engine.lifecycle import FiringStatus
from engine.rights import Right, Rights

SHOWN = 25
DURATIONS = ("catch_up_window", "jitter", "debounce", "idempotency_window")
WORDS = {
    FiringStatus.STARTED: "started a job",
    FiringStatus.SKIPPED: "was skipped",
    FiringStatus.REFUSED: "was refused",
    FiringStatus.WAITING: "waits",
}


@admin.register(Trigger)
class TriggerAdmin(ScopedAdmin[Trigger]):
    task_path = "task"
    list_display = ("named", "state", "fires", "task", "next", "last", "failing")
    list_display_links = ("named",)
    list_fullwidth = True
    list_filter = ("kind",)
    list_before_template = "adminkit/list_tabs.html"
    search_fields = ("name", "task", "workspace__name")
    search_help_text = "Name, task or workspace"
    when_empty = "No trigger yet that you may see. Workspaces declare them under `triggers:`"
    show_full_result_count = False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.act))
        return [path("<int:pk>/act/<str:what>/", view, name="triggers_act"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Trigger]:
        rows = super().get_queryset(request).select_related("workspace")
        return rows.order_by("-is_listed", "workspace__name", "name")

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        found = super().get_changelist_instance(request)
        found.result_list = with_sources(found.result_list)
        return found

    def act(self, request: HttpRequest, pk: int, what: str) -> HttpResponse:
        row = self._found(request, str(pk))
        if Right.RUN not in _rights(request, row):
            raise PermissionDenied
        user = signed_in(request.user)
        try:
            match what:
                case "pause":
                    services.pause(row.pk, by=user.email)
                    messages.success(request, f"{row.name} is paused.")
                case "resume":
                    services.resume(row.pk, by=user.email)
                    messages.success(request, f"{row.name} fires again.")
                case "fire":
                    self._fire(request, row)
                case "send-again" | "discard":
                    self._deal(request, row, what)
                case "again":
                    self._send_again(request, row)
                case _:
                    raise Http404("There is no such button.")
        except StroemError as error:
            messages.error(request, str(error))
        return redirect(reverse("admin:triggers_trigger_change", args=[row.pk]))

    def _fire(self, request: HttpRequest, row: Trigger) -> None:
        user = signed_in(request.user)
        found = services.fire_by_hand(row.pk, user=user, by=user.email)
        is_good = found.status in (FiringStatus.STARTED, FiringStatus.WAITING)
        words = WORDS.get(FiringStatus(found.status), found.status)
        text = f"{row.name} {words}" + (f": {found.reason}" if found.reason else "") + "."
        (messages.success if is_good else messages.error)(request, text)

    def _deal(self, request: HttpRequest, row: Trigger, what: str) -> None:
        letter = request.POST.get("letter", "")
        done = services.deal_with(row.pk, letter, what, by=signed_in(request.user).email)
        still = [one.reason for one in done if one.status == FiringStatus.DEAD]
        if still:
            messages.error(request, f"{len(still)} of {len(done)} became dead letters: {still[0]}")
        else:
            words = "sent again" if what == "send-again" else "discarded"
            messages.success(request, f"{len(done)} dead letter(s) were {words}.")

    def _send_again(self, request: HttpRequest, row: Trigger) -> None:
        number = request.POST.get("delivery", "")
        rows = row.deliveries.select_related("trigger__workspace")
        is_number = number.isascii() and number.isdigit() and len(number) < 19
        found = rows.filter(pk=int(number)).first() if is_number else None
        if found is None:
            raise NotFound("This delivery is not kept any more")
        reply = hooks.send_again(found, signed_in(request.user))
        if reply.body.get("job_id"):
            messages.success(request, f"Sent again: job {reply.body['job_id']} was started.")
        else:
            reason = reply.body.get("error") or reply.body.get("reason") or "nothing was started"
            messages.error(request, f"Sent again: {reason}.")

    def _found(self, request: HttpRequest, object_id: str) -> Trigger:
        row = self.get_object(request, object_id)
        if row is None or not self.has_view_permission(request, row):
            raise Http404("There is no such trigger, or you may not see it.")
        return row

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        (row,) = with_sources([self._found(request, object_id)])
        rights = _rights(request, row)
        rows = Firing.objects.filter(trigger=row).defer("sealed").order_by("-created_at", "-id")
        firings = veiled(list(rows[:SHOWN]), rights)
        row = veiled_trigger(row, rights)
        jobs = Job.objects.filter(pk__in=[one.job_id for one in firings if one.job_id])
        statuses = dict(jobs.values_list("pk", "status"))
        context = {
            **self.admin_site.each_context(request),
            "title": row.name,
            "crumbs": [("Triggers", reverse("admin:triggers_trigger_changelist"))],
            "row": row,
            "state": services.state_of(row),
            "words": services.described(row),
            "blocked": abroad.refusal_of(row) if row.watched and row.is_live else "",
            "options": _shown(row),
            "next_runs": services.next_runs(row, transitions.database_now()),
            "firings": [(one, statuses.get(one.job_id) if one.job_id else None) for one in firings],
            "may_act": row.is_listed and Right.RUN in rights,
            "deliveries": _deliveries(row) if Right.INPUTS in rights else None,
            "no_deliveries": NO_INPUTS if Right.INPUTS not in rights else "",
            "source": row.seen_source,
            "dead": veiled(list(rows.filter(status=FiringStatus.DEAD)[:SHOWN]), rights)
            if row.seen_source
            else [],
            "opts": Trigger._meta,
        }
        return render(request, "triggers/trigger.html", context)

    @admin.display(description="trigger", ordering="name")
    def named(self, row: Trigger) -> SafeString:
        return format_html("{} <span class='st-help'>{}</span>", row.name, row.workspace.name)

    @admin.display(description="state")
    def state(self, row: Trigger) -> SafeString:
        return badge(services.state_of(row))

    @admin.display(description="fires")
    def fires(self, row: Trigger) -> str:
        return services.described(row)

    @admin.display(description="next", ordering="next_at")
    def next(self, row: Trigger) -> SafeString | str:
        return moment(row.next_at)

    @admin.display(description="last", ordering="last_fired_at")
    def last(self, row: Trigger) -> SafeString | str:
        return moment(row.last_fired_at)

    @admin.display(description="failures in a row", ordering="failures")
    def failing(self, row: Trigger) -> str:
        return str(row.failures) if row.failures else "–"


def _rights(request: HttpRequest, row: Trigger) -> Rights:
    return sight_of(request.user).on(row.workspace.name, row.task)


def _deliveries(row: Trigger) -> list[Delivery] | None:
    """The last requests; None for what receives none."""
    if row.kind != "webhook":
        return None
    rows = row.deliveries.select_related("firing").defer("sealed_body", "firing__sealed")
    return list(rows.order_by("-received_at", "-id")[: transitions.KEPT_DELIVERIES])


def _shown(row: Trigger) -> list[tuple[str, Any]]:
    """The options that the page does not say in words, without what was left at nothing."""
    options: dict[str, Any] = row.definition["options"]
    said = {"cron", "timezone", "task", "target_task", "name", "on_job", "secret", "env"}
    if options.get("idempotency_key") is None:
        said.add("idempotency_window")
    if options.get("mode") == "async":
        said.add("timeout_secs")
    if options.get("catch_up") == "none":
        said.add("catch_up_window")
    return [
        (key, describe(value) if key in DURATIONS else value)
        for key, value in sorted(options.items())
        if key not in said and value not in (None, False, 0, {}, [])
    ]
