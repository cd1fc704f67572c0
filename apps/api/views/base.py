"""What all views of the API share: they refuse query parameters that they do not know, and those
without a value."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from rest_framework.exceptions import NotFound, ParseError
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.api import metrics
from apps.api.mistakes import empty, twice, unknown

LIMIT = {"limit": "a whole number of at least 1"}
PAGE = {**LIMIT, "offset": "a whole number of at least 0"}
# Without a value, as a loop may send them first, these two mean the beginning.
CURSOR, AFTER = {"cursor": ""}, {"after": ""}
WORKSPACE = {"workspace": "the name of a workspace"}


def one_of(values: Iterable[str]) -> str:
    return f"one of: {', '.join(values)}"


def chosen(request: Request, name: str, allowed: Collection[str]) -> str:
    """The value of a filter that takes these only; empty where it is not given. Raises
    ParseError."""
    value = request.query_params.get(name) or ""
    if value and value not in allowed:
        raise ParseError(
            f"Invalid {name} filter '{value[:100]}'. Must be one of: {', '.join(allowed)}"
        )
    return value


def refuse_nul(names: Mapping[str, str]) -> None:
    """Raises NotFound: the database cannot hold such a name."""
    # `scope.job` says what an id must look like
    if any("\x00" in text for name, text in names.items() if name != "job"):
        raise NotFound


# `query`: the query parameters of GET, and in words what may be given; no words where the view
# itself judges an empty value. Other methods take none. (A comment, because the schema publishes
# docstrings of views.)
class ApiView(APIView):
    query: ClassVar[Mapping[str, str]] = {}

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        began, status = time.perf_counter(), 500
        try:
            answer = super().dispatch(request, *args, **kwargs)
            status = answer.status_code
        finally:
            route = "/" + (request.resolver_match.route if request.resolver_match else "")
            metrics.requests.note(request.method or "", route, status, time.perf_counter() - began)
        return answer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """A misspelt filter must not answer with everything, and neither must one whose value is
        missing, as in `?status=$UNSET`. Raises ParseError, and NotFound for names that the database
        cannot hold."""
        super().initial(request, *args, **kwargs)
        refuse_nul(kwargs)
        known = self.query if request.method in ("GET", "HEAD") else {}
        wrong = unknown("query parameter", request.query_params, known)
        wrong = wrong or twice("query parameter", request.query_params)
        wrong = wrong or empty("query parameter", request.query_params, known)
        if wrong:
            raise ParseError(wrong)
