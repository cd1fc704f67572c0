"""Connections and their types. A secret value is in no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rest_framework import serializers

from apps.api.shapes.base import Asked, Shape, Values
from apps.jobs.models import Job
from apps.workspaces.connections import Listed
from apps.workspaces.merging import held
from engine.spec.connection_types import Use, askers_of, fields_of
from engine.spec.model import InputField
from engine.spec.model import Workspace as Definition


@dataclass(frozen=True, slots=True)
class FieldRow:
    name: str
    field: InputField
    is_set: bool | None = None
    value: Any = None


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """`shows`: whether the caller may see the values that are not secret."""

    one: Listed
    definition: Definition
    used_by: Sequence[Use]
    check: str | None
    last_check: Job | None
    shows: bool = False

    @property
    def version(self) -> int | None:
        return self.one.row.version if self.one.row else None

    @property
    def updated_at(self) -> datetime | None:
        return self.one.row.updated_at if self.one.row else None

    @property
    def updated_by(self) -> str | None:
        return self.one.row.updated_by if self.one.row else None

    @property
    def problem(self) -> str | None:
        return self.one.advice or None

    @property
    def asked_by(self) -> list[str]:
        return askers_of(self.definition, self.one.type) if self.one.type else []

    @property
    def properties(self) -> list[FieldRow]:
        properties = self.definition.connection_types.get(self.one.type or "", {})
        if self.one.row is None:
            return [FieldRow(name, field) for name, field in fields_of(properties).items()]
        content = held(self.one.row.sealed)
        return [
            FieldRow(
                name,
                field,
                name in content.values,
                content.values.get(name)
                if self.shows and not field.secret and name not in content.secret
                else None,
            )
            for name, field in fields_of(properties).items()
        ]


@dataclass(frozen=True, slots=True)
class TypeRow:
    name: str
    definition: Definition
    connections: Sequence[str]

    @property
    def check(self) -> str | None:
        return self.definition.connection_checks.get(self.name)

    @property
    def properties(self) -> list[FieldRow]:
        described = self.definition.connection_types[self.name]
        return [FieldRow(name, field) for name, field in fields_of(described).items()]


class UseShape(Shape[Use]):
    kind = serializers.ChoiceField(["task", "action", "trigger", "hook"])
    owner = serializers.CharField(help_text="Name of the task, action or trigger")
    step = serializers.SerializerMethodField(help_text="Step or hook of the task; null: its input")
    input = serializers.CharField()

    def get_step(self, use: Use) -> str | None:
        return use.step or None


class CheckShape(Shape[Job]):
    job_id = serializers.UUIDField(source="pk")
    status = serializers.CharField()
    error = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)

    def get_error(self, job: Job) -> str | None:
        return job.error or None


class ConnectionShape(Shape[ConnectionRow]):
    name = serializers.CharField(source="one.name")
    type = serializers.CharField(
        source="one.type", allow_null=True, help_text="Null if the connection has no type"
    )
    source = serializers.ChoiceField(["files", "database"], source="one.source")  # type: ignore[assignment]  # of DRF's fields, too
    overrides = serializers.BooleanField(
        source="one.overrides", help_text="It takes the place of one of the files"
    )
    version = serializers.IntegerField(required=False, help_text="Only of the database's")
    updated_at = serializers.DateTimeField(required=False)
    updated_by = serializers.CharField(required=False)
    problem = serializers.CharField(
        required=False, help_text="Why it no longer fits its type, and what to do"
    )
    used_by = UseShape(many=True)
    check = serializers.CharField(allow_null=True, help_text="The action that checks its type")
    last_check = CheckShape(required=False)


class PropertyShape(Shape[FieldRow]):
    name = serializers.CharField()
    type = serializers.CharField(source="field.type")
    required = serializers.BooleanField(source="field.required")  # type: ignore[assignment]  # of DRF's fields, too
    secret = serializers.BooleanField(source="field.secret")
    description = serializers.CharField(source="field.description", required=False)
    options = serializers.ListField(
        child=serializers.CharField(), source="field.options", required=False
    )
    is_set = serializers.BooleanField(
        required=False, help_text="Whether the database has a value; only of the database's"
    )
    value = serializers.JSONField(
        required=False,
        help_text="For those with the right `secrets` on the workspace; never secret values",
    )


class ConnectionDetailShape(ConnectionShape):
    properties = PropertyShape(many=True)
    asked_by = serializers.ListField(
        child=serializers.CharField(),
        help_text="Tasks whose starters may choose a connection of its type",
    )


class ConnectionTypeShape(Shape[TypeRow]):
    name = serializers.CharField()
    check = serializers.CharField(allow_null=True, help_text="The action that checks one")
    properties = PropertyShape(many=True)
    connections = serializers.ListField(child=serializers.CharField())


class ConnectionRequest(Asked):
    type = serializers.CharField(max_length=200)
    values = serializers.DictField()
    version = serializers.IntegerField(
        required=False, min_value=0, help_text="The one you have seen, 0 for none; else 409"
    )


class ConnectionChange(Asked):
    values = serializers.DictField()
    version = serializers.IntegerField(required=False, min_value=0)


class StoredShape(Shape[Values]):
    name = serializers.CharField()
    version = serializers.IntegerField()
    overrides = serializers.BooleanField(help_text="The files have one of this name")


class RemovedConnectionShape(Shape[Values]):
    name = serializers.CharField()
    is_in_files = serializers.BooleanField(help_text="The one of the files is in force again")


class CheckedShape(Shape[Values]):
    job_id = serializers.UUIDField()
