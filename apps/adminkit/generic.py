"""The theme's admin classes with Django's type parameters, which the theme lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, StackedInline
    from django.contrib.auth.admin import GroupAdmin, UserAdmin
    from django.core.paginator import Paginator
    from django.forms import ModelForm
else:
    from django import forms
    from django.contrib.auth import admin as accounts
    from django.core import paginator
    from unfold import admin as theme

    class Generic:
        """Accepts `[Model]`, as Django's stubs do and Django itself does not."""

        def __class_getitem__(cls, model: Any) -> type[Self]:
            return cls

    class Declared:
        """Only lookups of declared filters reach the database. Django lets an address ask for any
        lookup on a model's own fields, regular expressions included."""

        def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
            return lookup in {
                name for each in self.get_list_filter(request) for name in _parameters(each)
            }

        def get_object(self, request: Any, object_id: str, from_field: str | None = None) -> Any:
            # an empty name in the address reaches Django's look-up as it is, and is no field
            found: Any = super().get_object(request, object_id, from_field or None)  # type: ignore[misc]  # of a mixin
            return found

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


__all__ = ["GroupAdmin", "ModelAdmin", "ModelForm", "Paginator", "StackedInline", "UserAdmin"]
