"""The pages of connections: which there are, the form of one, who uses it, its checks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from apps.accounts.models import signed_in
from apps.adminkit.typed_forms import TypedForm
from apps.connections import checks
from apps.jobs import veils
from apps.jobs.models import Job
from apps.jobs.pages.job import job_url
from apps.jobs.pages.standing import with_standing
from apps.workspaces import connections
from apps.workspaces.connections import Listed
from apps.workspaces.merging import held
from apps.workspaces.models import Workspace
from apps.workspaces.revisions import definition_of, definitions_of
from apps.workspaces.rights import NOT_WHOLE, insist, sight_of, workspaces_of
from engine.errors import Conflict, InputError, NotFound, StroemError
from engine.masking import MASK
from engine.rights import Right, Rights
from engine.spec.connection_types import Properties, askers_of, fields_of, uses_of
from engine.spec.model import InputField
from engine.spec.model import Workspace as Definition

RECENT = 5


class NameForm(forms.Form):
    """The name of a new connection, and the version that the form was made from."""

    name = forms.CharField(
        label="Name",
        help_text="Steps, tasks and triggers name the connection by it.",
        max_length=100,
        widget=forms.TextInput({"class": "st-input", "aria-required": "true"}),
    )


def listing(request: HttpRequest) -> HttpResponse:
    """All connections of the workspaces of which the caller may see every task."""
    sight = sight_of(request.user)
    seen = workspaces_of(request.user).order_by("name")
    rows = [row for row in seen if sight.is_whole(row.name)]
    read = definitions_of([row.current_id for row in rows if row.current_id])
    last, stored = checks.last_checks(rows), connections.rows_of(rows)
    groups = []
    for row in rows:
        definition = read.get(row.current_id or 0, Definition())
        uses = uses_of(definition)
        found = [
            {"one": one, "uses": len(uses.get(one.name, ())), "last": last.get((row.pk, one.name))}
            for one in connections.connections_in(row, definition, stored.get(row.pk, ())).values()
        ]
        may_add = Right.SECRETS in sight.on(row.name)
        if found or (definition.connection_types and may_add):
            types = sorted(definition.connection_types)
            groups.append({"workspace": row, "found": found, "may_add": may_add, "types": types})
    context = {**admin.site.each_context(request), "title": "Connections", "groups": groups}
    return render(request, "connections/connections.html", context)


def add(request: HttpRequest, workspace: str, kind: str) -> HttpResponse:
    """The form of a new connection of this type."""
    row, definition, rights = _workspace(request, workspace)
    insist(rights, Right.SECRETS)
    if kind not in definition.connection_types:
        raise Http404("The files do not have this connection type any more.")
    data = request.POST if request.method == "POST" else None
    names, form = NameForm(data), TypedForm(fields_of(definition.connection_types[kind]), data)
    if data is not None and names.is_valid():
        name = names.cleaned_data["name"]
        try:
            connections.store(
                row, name, kind, form.given(), by=signed_in(request.user).email, version=0
            )
        except (InputError, Conflict) as error:
            _refuse(error, names, form, taken=name)
        else:
            messages.success(request, f"Connection {name} is stored.")
            return redirect(address(row.name, name))
    context = {
        **admin.site.each_context(request),
        "title": f"New connection of type {kind}",
        "crumbs": [("Connections", reverse("connections"))],
        "workspace": row,
        "kind": kind,
        "names": names,
        "form": form,
    }
    return render(request, "connections/add.html", context)


def connection(request: HttpRequest, workspace: str, name: str) -> HttpResponse:
    """One connection; for those who may edit secrets of its workspace, with the form of its
    values."""
    row, definition, rights = _workspace(request, workspace)
    one = _one(row, name)
    properties = definition.connection_types.get(one.type or "", {})
    may_store = Right.SECRETS in rights
    may_edit = may_store and one.type in definition.connection_types
    form = _form(request, one, properties) if may_edit else None
    if request.method == "POST":
        if form is None:
            raise PermissionDenied
        if _save(request, row, one, form):
            return redirect(address(row.name, name))
    of_checks = _of_checks(request, row, name)
    found = with_standing(checks.checks_of(row, name))[:RECENT]
    recent = [veils.job(job, of_checks) for job in found]
    context = {
        **admin.site.each_context(request),
        "title": name,
        "crumbs": [("Connections", reverse("connections"))],
        "workspace": row,
        "one": one,
        "fields": fields_of(properties).items(),
        "form": form,
        "may_edit": may_edit,
        "may_remove": may_store and one.row is not None,
        "may_check": Right.RUN in of_checks,
        "obstacle": checks.obstacle(one, definition),
        "action": definition.connection_checks.get(one.type or ""),
        "uses": uses_of(definition).get(name, ()),
        "askers": askers_of(definition, one.type) if one.type else (),
        "recent": recent,
        "lines": checks.last_lines(recent[0]) if recent and Right.LOGS in of_checks else (),
    }
    return render(request, "connections/connection.html", context)


@require_POST
def check(request: HttpRequest, workspace: str, name: str) -> HttpResponse:
    """Start a check; its page shows how it goes."""
    row, _, _ = _workspace(request, workspace)
    insist(_of_checks(request, row, name), Right.RUN)
    try:
        job: Job = checks.start(row, name, signed_in(request.user))
    except NotFound as error:
        raise Http404(str(error)) from None
    except StroemError as error:
        messages.error(request, f"{error}.")
        return redirect(address(row.name, name))
    return redirect(job_url(job.pk))


@require_POST
def remove(request: HttpRequest, workspace: str, name: str) -> HttpResponse:
    row, _, rights = _workspace(request, workspace)
    insist(rights, Right.SECRETS)
    try:
        is_in_files = connections.remove(row, name)
    except NotFound as error:
        raise Http404(str(error)) from None
    rest = "; the one of the files is in force again" if is_in_files else ""
    messages.success(request, f"Connection {name} was removed from the database{rest}.")
    return redirect(address(row.name, name) if is_in_files else reverse("connections"))


def panel(request: HttpRequest, row: Workspace) -> dict[str, Any] | None:
    """For the page of a workspace: how many there are, and which override the files."""
    if not sight_of(request.user).is_whole(row.name):
        return None
    definition = definition_of(row.current_id) if row.current_id else Definition()
    found = connections.connections_in(row, definition).values()
    overriding = [one.name for one in found if one.overrides]
    return {"count": len(found), "overriding": overriding} if found else None


def address(workspace: str, name: str) -> str:
    return reverse("connection", args=[workspace, name])


def _workspace(request: HttpRequest, name: str) -> tuple[Workspace, Definition, Rights]:
    sight = sight_of(request.user)
    row = Workspace.objects.filter(name=name).first()
    if row is None or not sight.sees(name):
        raise Http404("Workspace not found, or you may not see it.")
    if not sight.is_whole(name):
        raise PermissionDenied(NOT_WHOLE)
    definition = definition_of(row.current_id) if row.current_id else Definition()
    return row, definition, sight.on(name)


def _of_checks(request: HttpRequest, row: Workspace, name: str) -> Rights:
    return sight_of(request.user).on(row.name, checks.task_of(name))


def _one(row: Workspace, name: str) -> Listed:
    try:
        return checks.find(row, name)[0]
    except NotFound as error:
        raise Http404(str(error)) from None


def _form(request: HttpRequest, one: Listed, properties: Properties) -> TypedForm:
    """With the stored values, except secret ones: those are only known to be there."""
    before = None
    if one.row is not None:
        content = held(one.row.sealed)
        before = {
            key: MASK if key in content.secret or properties[key].get("secret") else value
            for key, value in content.values.items()
            if key in properties
        }
    data = request.POST if request.method == "POST" else None
    fields = {
        name: _explained(field, is_stored=name in (before or {}))
        for name, field in fields_of(properties).items()
    }
    return TypedForm(fields, data, before=before)


def _explained(field: InputField, *, is_stored: bool) -> InputField:
    """With what an empty field means."""
    notes = [field.description or ""]
    if field.secret and is_stored:
        notes.append("A value is stored.")
    elif field.default is not None and not field.secret:
        notes.append(f"If empty: {field.default}.")
    return replace(field, description=" ".join(filter(None, notes)))


def _save(request: HttpRequest, row: Workspace, one: Listed, form: TypedForm) -> bool:
    seen = request.POST.get("version", "")
    try:
        made = connections.store(
            row,
            one.name,
            one.type or "",
            form.given(),
            by=signed_in(request.user).email,
            version=int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 10 else None,
        )
    except (InputError, Conflict) as error:
        _refuse(error, None, form)
        return False
    messages.success(request, f"Version {made.version} is stored; steps get it from now on.")
    return True


def _refuse(
    error: InputError | Conflict, names: NameForm | None, form: TypedForm, taken: str = ""
) -> None:
    """Each error at its field."""
    if isinstance(error, Conflict):
        said: dict[str, Any] = {"": str(error)}
        if names is not None:
            names.add_error("name", f"a connection '{taken}' is stored already")
            said = {}
    else:
        said = dict(error.problems)
        if names is not None and "name" in said and "name" not in form.fields:
            names.add_error("name", said.pop("name"))
    form.refuse(InputError(said))
