"""What all shapes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.mistakes import unknown
from engine.spec.freeze import to_json

T = TypeVar("T")
Values = Mapping[str, Any]


# Fields without conversion: the renderer writes their values unchanged.
_PLAIN = {
    serializers.BooleanField,
    serializers.CharField,
    serializers.ChoiceField,
    serializers.DateTimeField,
    serializers.EmailField,
    serializers.FloatField,
    serializers.IntegerField,
    serializers.JSONField,
    serializers.UUIDField,
}


# The body of a request. (A comment, because the schema publishes docstrings of shapes.) A key that
# nobody knows is refused: what is not carried out must not be accepted.
class Asked(serializers.Serializer[None]):
    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            wrong = unknown("key", map(str, data), tuple(self.fields))
            if wrong:
                raise serializers.ValidationError({"non_field_errors": [wrong]})
        return super().to_internal_value(data)


@dataclass(frozen=True, slots=True)
class _Part:
    """How one field of an answer is made."""

    name: str
    read: Callable[[Any], Any]
    convert: Callable[[Any], Any] | None
    is_optional: bool


# An answer. (A comment, because the schema publishes docstrings of shapes.) Optional fields without
# a value are left out. Faster than DRF's own rendering, which asks every field about every value.
class Shape(serializers.Serializer[T]):
    @cached_property
    def _parts(self) -> list[_Part]:
        return [self._part(name, field) for name, field in self.fields.items()]

    def _part(self, name: str, field: serializers.Field[Any, Any, Any, Any]) -> _Part:
        if isinstance(field, serializers.SerializerMethodField):
            return _Part(name, getattr(self, f"get_{name}"), None, is_optional=False)
        convert = None if type(field) in _PLAIN else field.to_representation
        return _Part(name, _reader(field.source_attrs), convert, not field.required)

    def to_representation(self, instance: T) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for part in self._parts:
            value = part.read(instance)
            if value is not None:
                said[part.name] = part.convert(value) if part.convert else value
            elif not part.is_optional:
                said[part.name] = None
        return said


def _reader(path: Sequence[str]) -> Callable[[Any], Any]:
    """Follows the path of a `source` through attributes and keys; None if it ends early."""
    first, *rest = path
    if not rest:
        return lambda value: value[first] if isinstance(value, dict) else getattr(value, first)

    def read(value: Any) -> Any:
        value = value[first] if isinstance(value, dict) else getattr(value, first)
        for name in rest:
            if value is None:
                return None
            value = value.get(name) if isinstance(value, dict) else getattr(value, name)
        return value

    return read


@extend_schema_field(OpenApiTypes.STR)
class TextOrNull(serializers.Field[str, str, str | None, Any]):
    """Text; null if empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_null=True, **options)

    def to_representation(self, value: str) -> str | None:
        return value or None


class FrozenField(serializers.JSONField):
    """A value of a frozen definition as plain JSON."""

    def to_representation(self, value: Any) -> Any:
        return to_json(value)


class ErrorShape(Shape[Values]):
    error = serializers.CharField(help_text="One sentence: what is wrong, and what to change")
    code = serializers.CharField(help_text="The kind of error, for programs")
    fields = serializers.DictField(  # type: ignore[assignment]  # a key of the answer
        child=serializers.CharField(), required=False, help_text="By name, of a wrong input"
    )
    retry_after_secs = serializers.IntegerField(required=False, help_text="Of a 429")


class StatusShape(Shape[Values]):
    status = serializers.CharField()


class LogShape(Shape[Values]):
    logs = serializers.CharField(help_text="JSON lines: {ts, stream, step, line}")
    next = serializers.CharField(help_text="Send it as `after` to get what arrived since")
    has_more = serializers.BooleanField(help_text="True if more can be read at once")


def answer(shape: type[Shape[T]], instance: T, **context: Any) -> Response:
    return Response(shape(instance, context=context).data)


def answer_list(shape: type[Shape[T]], rows: Iterable[T]) -> Response:
    return Response(listed(shape, rows))


def listed(shape: type[Shape[T]], rows: Iterable[T]) -> list[dict[str, Any]]:
    one = shape()
    return [one.to_representation(row) for row in rows]


def checked(shape: type[serializers.Serializer[None]], request: Request) -> dict[str, Any]:
    """The validated request body. Raises ValidationError."""
    given = shape(data=request.data)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)
