"""People and groups. Administrators only."""

from __future__ import annotations

from django.contrib.auth.models import Group
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import people
from apps.accounts.models import User, signed_in
from apps.api import scope
from apps.api.authentication import IsAdministrator
from apps.api.paging import window
from apps.api.shapes.accounts import (
    AdminRequest,
    GroupsRequest,
    GroupsShape,
    NewPersonShape,
    PersonPage,
    PersonRequest,
    PersonShape,
)
from apps.api.shapes.base import ErrorShape, StatusShape, answer, checked
from apps.api.views.base import PAGE, ApiView


class AdminView(ApiView):
    permission_classes = (IsAuthenticated, IsAdministrator)


class PeopleView(AdminView):
    query = PAGE

    @extend_schema(
        operation_id="users_list",
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("offset", int)],
        responses={200: PersonPage, 400: ErrorShape},
    )
    def get(self, request: Request) -> Response:
        rows = scope.people()
        page = rows.prefetch_related("groups")[window(request)]
        return answer(PersonPage, {"items": page, "total": rows.count()})

    @extend_schema(
        request=PersonRequest, responses={200: NewPersonShape, 400: ErrorShape, 409: ErrorShape}
    )
    def post(self, request: Request) -> Response:
        given = checked(PersonRequest, request)
        person = people.add_person(
            given["email"],
            given.get("name") or "",
            given.get("groups") or (),
            is_admin=given.get("is_admin", False),
        )
        return answer(NewPersonShape, person)


class PersonView(AdminView):
    @extend_schema(responses={200: PersonShape, 404: ErrorShape})
    def get(self, request: Request, user: str) -> Response:
        return answer(PersonShape, scope.person(user))


class PersonAdminView(AdminView):
    @extend_schema(request=AdminRequest, responses={200: StatusShape, 404: ErrorShape})
    def put(self, request: Request, user: str) -> Response:
        person: User = scope.person(user)
        given = checked(AdminRequest, request)
        people.set_admin(person, is_admin=given["is_admin"], by=signed_in(request.user))
        return answer(StatusShape, {"status": "ok"})


class PersonGroupsView(AdminView):
    @extend_schema(responses={200: GroupsShape, 404: ErrorShape})
    def get(self, request: Request, user: str) -> Response:
        person = scope.person(user)
        return answer(GroupsShape, {"groups": sorted(row.name for row in person.groups.all())})

    @extend_schema(request=GroupsRequest, responses={200: StatusShape, 404: ErrorShape})
    def put(self, request: Request, user: str) -> Response:
        person = scope.person(user)
        people.set_groups(person, checked(GroupsRequest, request)["groups"])
        return answer(StatusShape, {"status": "ok"})


class GroupsView(AdminView):
    """Names of all groups."""

    @extend_schema(responses=GroupsShape)
    def get(self, request: Request) -> Response:
        names = Group.objects.order_by("name").values_list("name", flat=True)
        return answer(GroupsShape, {"groups": list(names)})
