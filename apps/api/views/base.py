"""What all views of the API share: they refuse query parameters that they do not know."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework.exceptions import NotFound, ParseError
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.api import metrics
from apps.api.mistakes import twice, unknown

PAGE = ("limit", "offset")


def refuse_nul(names: Mapping[str, str]) -> None:
    """Raises NotFound: the database cannot hold such a name."""
    # `scope.job` says what an id must look like
    if any("\x00" in text for name, text in names.items() if name != "job"):
        raise NotFound


# `query`: the query parameters of GET; other methods take none. (A comment, because the schema
# publishes docstrings of views.)
class ApiView(APIView):
    query: ClassVar[tuple[str, ...]] = ()

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
        """A misspelt filter must not answer with everything. Raises ParseError, and NotFound for
        names that the database cannot hold."""
        super().initial(request, *args, **kwargs)
        refuse_nul(kwargs)
        known = self.query if request.method in ("GET", "HEAD") else ()
        wrong = unknown("query parameter", request.query_params, known)
        wrong = wrong or twice("query parameter", request.query_params)
        if wrong:
            raise ParseError(wrong)
