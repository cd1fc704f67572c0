"""The pages of subscriptions, for administrators of their workspaces."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from apps.accounts.models import signed_in
from apps.adminkit import panels
from apps.adminkit.badges import badge
from apps.adminkit.generic import ModelAdmin, ModelForm
from apps.adminkit.templatetags.adminkit import moment
from apps.subscriptions import services
from apps.subscriptions.models import Subscription
from apps.subscriptions.services import Wanted
from apps.subscriptions.values import EVENTS
from apps.workspaces.models import Workspace
from apps.workspaces.rights import sight_of
from engine.errors import Conflict, InputError, StroemError
from engine.rights import Right

SHOWN = 100


class SubscriptionForm(ModelForm[Subscription]):
    events = forms.MultipleChoiceField(
        choices=[(event, event) for event in EVENTS], widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = Subscription
        fields = ("workspace", "name", "url", "events", "with_output")
        labels = {"url": "URL", "with_output": "Send outputs, too"}
        help_texts = {
            "name": "Lower-case letters, digits, hyphens and underscores",
            "url": "Messages are sent there by POST, signed with a secret that is shown next",
        }
        widgets = {
            "name": UnfoldAdminTextInputWidget(),
            "url": UnfoldAdminTextInputWidget(),
            "with_output": UnfoldBooleanSwitchWidget(),
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if {"url", "events"} <= set(cleaned):
            name = cleaned.get("name") or self.instance.name
            try:
                services.check(name, wanted_of(cleaned))
                if cleaned.get("workspace"):  # a new one
                    services.check_room(cleaned["workspace"])
            except InputError as error:
                raise ValidationError(dict(error.problems)) from None
            except Conflict as error:
                raise ValidationError(str(error)) from None
        return cleaned


def _mine(request: HttpRequest) -> QuerySet[Workspace]:
    return Workspace.objects.filter(sight_of(request.user).subscribable())


def wanted_of(cleaned: dict[str, Any]) -> Wanted:
    return Wanted(cleaned["url"], cleaned["events"], bool(cleaned.get("with_output")))


@admin.register(Subscription)
class SubscriptionAdmin(ModelAdmin[Subscription]):
    is_noted_by_service = True
    form = SubscriptionForm
    list_display = ("named", "state", "events_in_words", "tried", "failing")
    list_display_links = ("named",)
    list_fullwidth = True
    list_select_related = ("workspace",)
    search_fields = ("name", "workspace__name")
    show_full_result_count = False
    actions = None
    when_empty = "No subscription yet. Add one to tell another system what happens in a workspace."

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.act))
        edit = self.admin_site.admin_view(self.edit)
        return [
            path("<int:pk>/act/<str:what>/", view, name="subscriptions_act"),
            path("<int:pk>/edit/", edit, name="subscriptions_edit"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        rows = Subscription.objects.filter(workspace__in=_mine(request))
        rows = rows.defer("sealed_secret", "sealed_previous").select_related("workspace")
        return rows.order_by("workspace__name", "name")

    def get_readonly_fields(
        self, request: HttpRequest, obj: Subscription | None = None
    ) -> tuple[str, ...]:
        return ("workspace", "name") if obj else ()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        options["queryset"] = _mine(request).order_by("name")
        return super().formfield_for_foreignkey(db_field, request, **options)

    def _may(self, request: HttpRequest, obj: Subscription | None = None) -> bool:
        if not request.user.is_staff:
            return False
        if obj is None:  # asked several times for each page: without a query
            return signed_in(request.user).has_somewhere(Right.MANAGE)
        return sight_of(request.user).may_subscribe(obj.workspace.name)

    has_module_permission = has_add_permission = _may
    has_view_permission = has_change_permission = has_delete_permission = _may

    def edit(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The form; the page itself shows what became of the messages."""
        return super().change_view(request, str(pk))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self._found(request, object_id)
        if request.method != "GET":
            raise PermissionDenied
        context = {
            **self._context(request, row),
            "state": services.state_of(row),
            "deliveries": row.deliveries.order_by("-id")[:SHOWN],
        }
        return render(request, "subscriptions/subscription.html", context)

    def _found(self, request: HttpRequest, object_id: str) -> Subscription:
        row = self.get_object(request, object_id)
        if row is None or not self.has_view_permission(request, row):
            raise Http404("There is no such subscription, or you may not see it.")
        return row

    def _context(self, request: HttpRequest, row: Subscription) -> dict[str, Any]:
        crumbs = [("Subscriptions", reverse("admin:subscriptions_subscription_changelist"))]
        return {
            **self.admin_site.each_context(request),
            "title": row.name,
            "crumbs": crumbs,
            "row": row,
            "opts": Subscription._meta,
        }

    def act(self, request: HttpRequest, pk: int, what: str) -> HttpResponse:
        row, by = self._found(request, str(pk)), signed_in(request.user).email
        try:
            match what:
                case "pause":
                    services.pause(row, by=by)
                    messages.success(request, f"{row.name} is paused.")
                case "resume":
                    services.resume(row, by=by)
                    messages.success(request, f"{row.name} is told again.")
                case "ping":
                    services.ping(row, by=by)
                    messages.success(request, "A ping is on its way; its line says what became.")
                case "again":
                    services.send_again(row, request.POST.get("delivery", ""), by=by)
                    messages.success(request, "The message is sent again.")
                case "rotate":
                    return self._show(request, row, services.rotate(row, by=by))
                case _:
                    raise Http404("There is no such button.")
        except StroemError as error:
            messages.error(request, str(error))
        return redirect(reverse("admin:subscriptions_subscription_change", args=[row.pk]))

    def _show(self, request: HttpRequest, row: Subscription, secret: str) -> HttpResponse:
        context = {**self._context(request, row), "secret": secret}
        answer = render(request, "subscriptions/new_secret.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    def save_model(
        self, request: HttpRequest, obj: Subscription, form: SubscriptionForm, change: bool
    ) -> None:
        wanted, by = wanted_of(form.cleaned_data), signed_in(request.user).email
        if change:
            services.change(obj, wanted, is_paused=obj.paused_at is not None, by=by)
            return
        made, secret = services.create(obj.workspace, obj.name, wanted, by=by)
        obj.pk = made.pk
        setattr(request, "_stroem_secret", secret)  # noqa: B010  (our attribute on Django's class)

    def response_add(
        self, request: HttpRequest, obj: Subscription, post_url_continue: str | None = None
    ) -> HttpResponse:
        secret = getattr(request, "_stroem_secret")  # noqa: B009  (see save_model)
        return self._show(request, obj, secret)

    def response_change(self, request: HttpRequest, obj: Subscription) -> HttpResponse:
        messages.success(request, f"{obj.name} was changed.")
        return redirect(reverse("admin:subscriptions_subscription_change", args=[obj.pk]))

    def delete_model(self, request: HttpRequest, obj: Subscription) -> None:
        services.remove(obj, by=signed_in(request.user).email)

    def construct_change_message(  # type: ignore[override]  # Django takes a text, too
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> str:
        return "Created" if add else "Changed"

    @admin.display(description="subscription", ordering="name")
    def named(self, row: Subscription) -> SafeString:
        return format_html("{} <span class='st-help'>{}</span>", row.name, row.workspace.name)

    @admin.display(description="state")
    def state(self, row: Subscription) -> SafeString:
        return badge(services.state_of(row))

    @admin.display(description="is told of")
    def events_in_words(self, row: Subscription) -> str:
        return ", ".join(row.events)

    @admin.display(description="last try", ordering="last_tried_at")
    def tried(self, row: Subscription) -> SafeString | str:
        return moment(row.last_tried_at)

    @admin.display(description="failures in a row", ordering="failures")
    def failing(self, row: Subscription) -> str:
        return str(row.failures) if row.failures else "–"


def workspace_panel(request: HttpRequest, row: Workspace) -> dict[str, Any] | None:
    """Subscriptions in trouble, for administrators of the workspace."""
    if not sight_of(request.user).may_subscribe(row.name):
        return None
    found = [(one, services.trouble_of(one)) for one in services.troubled().filter(workspace=row)]
    return {"found": found} if found else None


panels.workspace_alerts.add("subscriptions/workspace_panel.html", workspace_panel, order=10)
