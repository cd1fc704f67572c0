"""The theme's admin classes with Django's type parameters, which the theme lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.http import HttpRequest

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, StackedInline
    from django.contrib.auth.admin import GroupAdmin, UserAdmin
    from django.core.paginator import Paginator
    from django.forms import ModelForm
else:
    from django import forms
    from django.contrib import messages
    from django.contrib.admin.views.main import ERROR_FLAG
    from django.contrib.auth import admin as accounts
    from django.core import paginator
    from django.db import transaction
    from django.utils.text import capfirst
    from unfold import admin as theme

    from apps.adminkit import edits
    from apps.adminkit.edits import Edit
    from engine.plain import shorten

    class Generic:
        """Accepts `[Model]`, as Django's stubs do and Django itself does not."""

        def __class_getitem__(cls, model: Any) -> type[Self]:
            return cls

    class Declared:
        """Only lookups of declared filters reach the database. Django lets an address ask for any
        lookup on a model's own fields, regular expressions included."""

        list_title = ""  # of the list, if not the name of what it lists

        def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
            return lookup in {
                name for each in self.get_list_filter(request) for name in _parameters(each)
            }

        def changelist_view(self, request: Any, extra_context: Any = None) -> Any:
            # Django's own, “Select job to change”, is no name for a tab of a browser
            name = self.list_title or self.model._meta.verbose_name_plural  # type: ignore[attr-defined]  # of a mixin
            context = {"title": capfirst(name), **(extra_context or {})}
            return super().changelist_view(request, context)  # type: ignore[misc]  # the same

        def get_changelist_instance(self, request: Any) -> Any:
            """Says so where a filter has a value that it does not offer, as of a link by hand."""
            found = super().get_changelist_instance(request)  # type: ignore[misc]  # of a mixin
            if ERROR_FLAG in request.GET:  # Django has sent the reader back
                messages.warning(request, "The address asked for what this list does not know.")
            for each in found.filter_specs:
                given = [
                    request.GET[name] for name in each.expected_parameters() if name in request.GET
                ]
                if given and not any(choice["selected"] for choice in each.choices(found)):
                    said = f"The filter “{each.title}” has no value “{shorten(given[0])}”."
                    messages.warning(request, said)
            return found

        # Whether the services that its forms call keep record of what they do.
        is_noted_by_service = False

        def save_related(self, request: Any, form: Any, formsets: Any, change: bool) -> None:
            super().save_related(request, form, formsets, change)  # type: ignore[misc]  # of a mixin
            if self.is_noted_by_service:
                return
            verb = "change" if change else "add"
            edits.tell(Edit(verb, form.instance, edits.of_form(form, is_new=not change)))
            for formset in formsets:
                _tell_of_lines(formset)

        def delete_model(self, request: Any, obj: Any) -> None:
            if not self.is_noted_by_service:
                edits.tell(Edit("delete", obj))
            super().delete_model(request, obj)  # type: ignore[misc]  # of a mixin

        def delete_queryset(self, request: Any, queryset: Any) -> None:
            with transaction.atomic():
                if not self.is_noted_by_service:
                    for row in queryset:
                        edits.tell(Edit("delete", row))
                super().delete_queryset(request, queryset)  # type: ignore[misc]  # of a mixin

        def get_object(self, request: Any, object_id: str, from_field: str | None = None) -> Any:
            # an empty name in the address reaches Django's look-up as it is, and is no field
            found: Any = super().get_object(request, object_id, from_field or None)  # type: ignore[misc]  # of a mixin
            return found

    def _tell_of_lines(formset: Any) -> None:
        """Rows that are edited on the page of another one."""
        for form in formset.forms:
            if any(form.instance is row for row in formset.new_objects):
                edits.tell(Edit("add", form.instance, edits.of_form(form, is_new=True)))
            elif any(form.instance is row for row, _ in formset.changed_objects):
                edits.tell(Edit("change", form.instance, edits.of_form(form, is_new=False)))
        for row in formset.deleted_objects:
            edits.tell(Edit("delete", row))

    def _parameters(declared: Any) -> tuple[str, ...]:
        if isinstance(declared, str):
            return tuple(f"{declared}__{rest}" for rest in ("exact", "isnull", "id__exact"))
        return (declared.parameter_name,)

    class ModelAdmin(Declared, Generic, theme.ModelAdmin): ...

    class StackedInline(Generic, theme.StackedInline): ...

    class UserAdmin(Declared, Generic, accounts.UserAdmin, theme.ModelAdmin): ...

    class GroupAdmin(Declared, accounts.GroupAdmin, theme.ModelAdmin): ...

    class ModelForm(Generic, forms.ModelForm): ...

    class Paginator(Generic, paginator.Paginator): ...


class SuperusersOnly:
    """Only superusers open this page; model permissions do not count."""

    def _is_superuser(self, request: HttpRequest, obj: object = None) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    has_module_permission = has_view_permission = _is_superuser
    has_add_permission = has_change_permission = has_delete_permission = _is_superuser


__all__ = [
    "GroupAdmin",
    "ModelAdmin",
    "ModelForm",
    "Paginator",
    "StackedInline",
    "SuperusersOnly",
    "UserAdmin",
]
