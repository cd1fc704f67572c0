"""Forms for declared input fields. They collect values; the engine alone validates them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.utils.datastructures import MultiValueDict

from engine import templating
from engine.errors import InputError
from engine.masking import MASK
from engine.spec.model import InputField

PREFIX = "input"
_LOCAL = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?", re.ASCII)
_TEXTUAL = ("string", "text")


class Suggest(forms.TextInput):
    """A text field with suggestions."""

    template_name = "adminkit/suggest.html"

    def __init__(self, suggestions: Sequence[str], attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs)
        self.suggestions = suggestions

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        list_id = f"{context['widget']['attrs'].get('id', name)}-offers"
        context["widget"]["attrs"]["list"] = list_id
        return {**context, "list_id": list_id, "suggestions": self.suggestions}


class SecretText(forms.Textarea):
    """Several lines that are never shown again, such as a private key."""

    def format_value(self, value: Any) -> str | None:
        return None


class TypedForm(forms.Form):
    """Asks for `fields`. `given()` returns the submitted values for `inputs.resolve`; `refuse()`
    shows its errors.

    `before` holds the values of an earlier run, with secrets masked: an empty secret stays
    unchanged. `connections` offers names by connection type.
    """

    def __init__(
        self,
        described: Mapping[str, InputField],
        data: Any = None,
        *,
        before: Mapping[str, Any] | None = None,
        connections: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(data, prefix=PREFIX, use_required_attribute=False, label_suffix="")
        self.described = described
        self.before = before
        for name in sorted(described, key=lambda name: _place(described, name)):
            field = described[name]
            self.fields[name] = _field(
                name, field, self._start(name, field), (connections or {}).get(field.type)
            )

    def _start(self, name: str, field: InputField) -> Any:
        """The initial value: from the earlier run, else a default that is not a template."""
        if field.secret:
            return None
        value = self.before.get(name) if self.before is not None else field.default
        is_template = self.before is None and templating.has_tags(value)
        return None if is_template else _written(field, value)

    def given(self) -> dict[str, Any]:
        """Submitted values by field name, without unchanged ones."""
        values: dict[str, Any] = {}
        for name, field in self.described.items():
            said = self._said(name, field)
            if said is not None:
                values[name] = said
        return values

    def _said(self, name: str, field: InputField) -> Any:
        key = self.add_prefix(name)
        if field.type in ("boolean", "bool") and not field.multiple:
            return key in self.data
        if field.multiple:
            return self._many(key, field)
        text = str(self.data.get(key, ""))
        if text == "":
            return self._emptied(name, field)
        if field.type == "datetime" and _LOCAL.fullmatch(text):
            return f"{text}:00Z" if text.count(":") == 1 else f"{text}Z"
        if _is_connection(field) and text.lstrip().startswith("{"):
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                return text
        return text.replace("\r\n", "\n")

    def _many(self, key: str, field: InputField) -> list[str]:
        if field.options and not field.allow_custom:
            assert isinstance(self.data, MultiValueDict)
            return self.data.getlist(key)
        return [line.strip() for line in str(self.data.get(key, "")).splitlines() if line.strip()]

    def _emptied(self, name: str, field: InputField) -> str | None:
        if field.secret:
            return MASK if self.before is not None and name in self.before else None
        return "" if field.type in _TEXTUAL and field.has_default and not field.options else None

    def refuse(self, error: InputError) -> None:
        """Show each error at its field."""
        self.cleaned_data = {}
        for name, sentence in error.problems.items():
            self.add_error(name if name in self.fields else None, sentence)


def _place(described: Mapping[str, InputField], name: str) -> tuple[int, int, str]:
    """Sort key: the author's `order` first, the rest as in the file."""
    field = described[name]
    return (10**6 if field.order is None else field.order, field.position, name)


def _is_connection(field: InputField) -> bool:
    return field.type not in (*_TEXTUAL, "integer", "number", "boolean", "bool", "date", "datetime")


def _written(field: InputField, value: Any) -> Any:
    """A value in the form its widget expects."""
    if value is None or isinstance(value, bool):
        return value
    if field.multiple:
        items = [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
        return items if field.options and not field.allow_custom else "\n".join(items)
    if field.type == "datetime":
        return _local(str(value))
    return json.dumps(value) if isinstance(value, Mapping | list | tuple) else str(value)


def _local(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return ""


def _field(name: str, field: InputField, start: Any, offers: Sequence[str] | None) -> forms.Field:
    attrs: dict[str, Any] = {"class": "st-input"}
    if field.required and not (field.secret and start):
        attrs["aria-required"] = "true"
    kind: type[forms.Field] = forms.CharField
    more: dict[str, Any] = {}
    if field.type in ("boolean", "bool") and not field.multiple:
        kind, attrs = forms.BooleanField, {"class": "st-check"}
    elif field.multiple and field.options and not field.allow_custom:
        kind, more = (
            forms.MultipleChoiceField,
            {"choices": [(item, item) for item in field.options]},
        )
    elif field.options and not field.allow_custom:
        empty = [] if field.required and start else [("", "–")]
        kind, more = (
            forms.ChoiceField,
            {"choices": [*empty, *((item, item) for item in field.options)]},
        )
    return kind(
        required=False,
        label=field.name or name,
        help_text=_help(name, field),
        initial=start,
        widget=_widget(field, attrs, offers),
        **more,
    )


def _widget(field: InputField, attrs: dict[str, Any], offers: Sequence[str] | None) -> forms.Widget:
    if field.type in ("boolean", "bool") and not field.multiple:
        return forms.CheckboxInput(attrs)
    if field.multiple:
        if field.options and not field.allow_custom:
            return forms.CheckboxSelectMultiple()
        return forms.Textarea({**attrs, "rows": 3, "placeholder": "one value per line"})
    if field.secret and field.type == "text":
        return SecretText({**attrs, "rows": 5, "autocomplete": "off", "spellcheck": "false"})
    if field.secret:
        return forms.PasswordInput({**attrs, "autocomplete": "new-password"})
    if field.options:
        return Suggest(field.options, attrs) if field.allow_custom else forms.Select(attrs)
    match field.type:
        case "text":
            return forms.Textarea({**attrs, "rows": 5})
        case "integer" | "number":
            return forms.NumberInput({**attrs, "step": "1" if field.type == "integer" else "any"})
        case "date":
            return forms.DateInput({**attrs, "type": "date"})
        case "datetime":
            return forms.DateTimeInput({**attrs, "type": "datetime-local", "step": "1"})
        case "string":
            return forms.TextInput(attrs)
    return Suggest(offers or (), attrs)


def _help(name: str, field: InputField) -> str:
    parts = [field.description or ""]
    if field.type == "datetime":
        parts.append("In UTC.")
    if field.secret:
        parts.append("Kept secret. Leave it empty to use the earlier value or the default, if any.")
    elif templating.has_tags(field.default):
        parts.append(f"If empty: {field.default}")
    return " ".join(part for part in parts if part)
