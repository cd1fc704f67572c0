"""What was added, changed or deleted on an admin page, told to whoever keeps record of it. The
log is in a room above; it registers itself here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import BinaryField, Model

SECRET_WORDS = ("password", "secret", "sealed", "digest", "credential", "token", "value")


@dataclass(frozen=True, slots=True)
class Edit:
    """`verb`: add, change or delete; `changes`: by field, before and after."""

    verb: str
    row: Model
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


listener: Callable[[Edit], None] | None = None


def tell(edit: Edit) -> None:
    """Called in the transaction of the edit."""
    assert listener is not None, "an app of the log registers itself when it is ready"
    listener(edit)


def of_form(form: Any, *, is_new: bool) -> dict[str, Mapping[str, Any]]:
    """What the fields of a valid form change; of secret ones only that they do."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in form.changed_data:
        if is_secret(form, name):
            found[name] = {"changed": True}
            continue
        before = None if is_new else _told(form, name, form.initial.get(name))
        found[name] = {"before": before, "after": _told(form, name, form.cleaned_data.get(name))}
    return found


def is_secret(form: Any, name: str) -> bool:
    """Whether the name or the kind of the field says so."""
    if any(word in name.lower() for word in SECRET_WORDS):
        return True
    known = {each.name: each for each in form._meta.model._meta.get_fields()}
    return isinstance(known.get(name), BinaryField)


def _told(form: Any, name: str, value: Any) -> Any:
    """Rows by their names, where the form holds their ids."""
    if isinstance(value, Model):
        return str(value)
    queryset = getattr(form.fields.get(name), "queryset", None)
    if hasattr(value, "__iter__") and not isinstance(value, str | dict):
        return sorted(str(_told(form, name, one)) for one in value)
    if queryset is not None and value not in (None, ""):
        return str(queryset.model._default_manager.filter(pk=value).first() or value)
    return value
