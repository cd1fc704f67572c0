"""Problems of a workspace as they are stored."""

from __future__ import annotations

from typing import Any

from engine.spec.model import Problem


def plain(problem: Problem) -> dict[str, Any]:
    return {
        "severity": problem.severity,
        "file": problem.place.file,
        "line": problem.place.line,
        "column": problem.place.column,
        "code": problem.code,
        "message": problem.message,
        "text": str(problem),
    }
