"""The port of `console` over the HTTP API, with the rights of whoever has signed in."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from console import port
from engine.errors import Conflict, InputError, NotFound
from engine.news import Relative, StepNews
from engine.spec.model import Workspace as Definition
from stroem.errors import Refused
from stroem.http import Server

DATE = "%a, %d %b %Y %H:%M:%S GMT"
PAGE = 500
ON_THE_SERVER = "files are imported on the server: `manage.py import_workspace`"


class Remote:
    """Implements `console.port.Platform` where a server can be reached."""

    slowest_look_s = 2.0

    def __init__(self, server: Server) -> None:
        self._server = server

    def job_ids(self, first: UUID, last: UUID, most: int) -> list[UUID]:
        prefix = _common(first.hex, last.hex)
        page = self._server.get("jobs", id_prefix=prefix, limit=most)
        return sorted(UUID(item["job_id"]) for item in page["items"])

    def jobs(
        self, *, workspace: str | None, task: str | None, status: str | None, limit: int
    ) -> list[port.JobLine]:
        if task is not None and workspace is None:
            raise InputError({"task": "--task needs --workspace: tasks are named within one"})
        page = self._server.get(
            "jobs", workspace=workspace, task_name=task, status=status, limit=limit
        )
        found = [self._line(item) for item in page["items"]]
        if not found:
            self._check_names(workspace, task)
        return found

    def _line(self, item: Mapping[str, Any]) -> port.JobLine:
        return port.JobLine(
            UUID(item["job_id"]), item["status"], item["workspace"], item["task_name"],
            _time(item["created_at"]), _when(item["started_at"]), _when(item["completed_at"]),
            self._now(),
        )  # fmt: skip

    def _now(self) -> datetime:
        try:
            return datetime.strptime(self._server.answered_at, DATE).replace(tzinfo=UTC)
        except ValueError:
            return datetime.now(UTC)

    def _all(self, *path: str, **wanted: str | None) -> list[Any]:
        """The items of all pages."""
        found: list[Any] = []
        while True:
            page = self._server.get(*path, limit=PAGE, offset=len(found) or None, **wanted)
            found += page["items"]
            if not page["items"] or len(found) >= page["total"]:
                return found

    def _check_names(self, workspace: str | None, task: str | None) -> None:
        """Raises NotFound for a workspace, or a task of it, that is not there."""
        if workspace is not None and task is None:
            self._server.get("workspaces", workspace, "tasks")
        elif workspace is not None:
            self._server.get("workspaces", workspace, "tasks", task, "stats")

    def job(self, job_id: UUID) -> port.JobView:
        said = self._server.get("jobs", job_id)
        return port.JobView(
            UUID(said["job_id"]), said["workspace"], said["task_name"], said["status"],
            said["error"], _time(said["created_at"]), _when(said["started_at"]),
            _when(said["completed_at"]), [_step(step) for step in said["steps"]],
            [_action(action) for action in said["workflow_actions"]], self._requests(said),
        )  # fmt: skip

    def _requests(self, said: Mapping[str, Any]) -> list[port.RequestLine]:
        """The open requests of a job, asked for where a step waits."""
        if not any(step["status"] == "suspended" for step in said["steps"]):
            return []
        page = self._server.get("approvals", job=said["job_id"], limit=PAGE)
        now = self._now()
        return [
            port.RequestLine(
                one["step_name"], one["asked"], _time(one["created_at"]),
                _when(one["deadline_at"]), one["about"], one["summary"] or one["message"],
                one["approvals"], one["min_approvals"], now,
            )
            for one in page["items"]
        ]  # fmt: skip

    def workspaces(self) -> list[port.WorkspaceLine]:
        found = [
            port.WorkspaceLine(
                one["name"], one["state"], one["source"], one["location"],
                (one["revision"] or "")[:12] or None, _when(one["checked_at"]),
                one["tasks_count"], [problem["text"] for problem in one["problems"]],
            )
            for one in self._server.get("workspaces")
        ]  # fmt: skip
        return sorted(found, key=lambda row: (row.state != "failed", row.name))

    def tasks(self, workspace: str | None) -> list[port.TaskLine]:
        path = ("tasks",) if workspace is None else ("workspaces", workspace, "tasks")
        return [
            port.TaskLine(
                one["workspace"],
                one["id"],
                one.get("description") or one.get("name") or "",
                {name: (field["type"], field["required"]) for name, field in one["inputs"].items()},
            )
            for one in self._server.get(*path)
        ]

    def artifacts(self, job_id: UUID) -> list[port.ArtifactLine]:
        return [
            port.ArtifactLine(
                one["name"], one["step_name"], one["content_type"], one["size_bytes"],
                _time(one["created_at"]), one["digest"], one.get("is_program", False),
            )
            for one in self._server.get("jobs", job_id, "artifacts")
        ]  # fmt: skip

    def artifact(self, job_id: UUID, name: str, step: str) -> Iterator[bytes]:
        return self._server.pieces("jobs", job_id, "artifacts", name, step=step)

    def log(
        self, job_ids: Collection[UUID], after: str, *, step: str = "", action: str = ""
    ) -> port.LogPiece:
        (job_id,) = job_ids
        part = ("steps", step) if step else ("workflow-actions", action) if action else ()
        said = self._server.get("jobs", job_id, *part, "logs", after=after)
        return port.LogPiece(list(_lines(job_id, said["logs"])), said["next"], said["has_more"])

    def search_log(self, job_id: UUID, text: str, after: str, step: str = "") -> port.LogMatches:
        said = self._server.get(
            "jobs", job_id, "logs", "search", q=text, after=after, step=step or None, limit=PAGE
        )
        lines = [port.LogLine(job_id, one["step"], one["line"]) for one in said["items"]]
        return port.LogMatches(lines, said["next"], said["stopped"] != "end")

    def news(self, root: UUID, after: str, known_actions: Collection[int]) -> port.News:
        known = ",".join(map(str, known_actions)) or None
        said = self._server.get("jobs", root, "news", after=after, known=known)
        lines = [
            line for part in said["logs"] for line in _lines(UUID(part["job_id"]), part["logs"])
        ]
        return port.News(
            [_relative(job) for job in said["relatives"]],
            [
                StepNews(
                    step["id"], UUID(step["job_id"]), step["name"], step["status"],
                    step["error"] or "", step["seconds"],
                )
                for step in said["steps"]
            ],
            [
                port.ActionNews(**{**action, "job_id": UUID(action["job_id"])})
                for action in said["actions"]
            ],
            port.LogPiece(lines, said["next"], said["has_more"]),
            said["has_ended"],
            said.get("hidden") or "",
        )  # fmt: skip

    def result(self, job_id: UUID) -> port.JobResult:
        said = self._server.get("jobs", job_id, steps="false")
        while said["retry_job_id"] is not None:
            said = self._server.get("jobs", said["retry_job_id"], steps="false")
        return port.JobResult(
            UUID(said["job_id"]),
            said["status"],
            said["error"] or "",
            said["output"],
            tuple(said.get("hidden", {}).values()),
        )

    def step_results(self, job_id: UUID) -> dict[str, port.StepResult]:
        return {
            step["step_name"]: port.StepResult(
                step["status"], step["output"], step["error_message"]
            )
            for step in self._server.get("jobs", job_id)["steps"]
        }

    def start(
        self,
        workspace: str,
        task: str,
        given: Mapping[str, Any],
        source: str,
        email: str | None = None,
    ) -> UUID:
        body = {"input": dict(given)}
        path = ("workspaces", workspace, "tasks", task, "execute")
        return UUID(self._server.send("POST", *path, body=body)["job_id"])

    def cancel(self, job_id: UUID, email: str | None = None) -> None:
        self._server.send("POST", "jobs", job_id, "cancel")

    def rerun(self, job_id: UUID, email: str | None) -> UUID:
        return UUID(self._server.send("POST", "jobs", job_id, "restart", body={})["job_id"])

    def restart_failed(self, job_id: UUID, email: str | None) -> None:
        self._server.send("POST", "jobs", job_id, "restart", body={"failed": True})

    def person(self, email: str | None) -> str:
        return str(self._server.get("auth", "me")["email"])

    def decide(self, job_id: UUID, step: str, email: str, verdict: port.Verdict) -> port.Decision:
        body = {
            "approved": verdict.approved,
            "input": None if verdict.given is None else dict(verdict.given),
            "rejection_reason": verdict.reason,
        }
        path = ("jobs", job_id, "steps", step)
        try:
            status = self._server.send("POST", *path, "approve", body=body)["status"]
        except Refused as error:
            raise Conflict(str(error)) from error
        if status != "suspended":
            return port.Decision(status, 0, 0)
        request = self._server.get(*path, "approval")
        votes = sum(vote["approved"] for vote in request["votes"])
        return port.Decision(status, votes, request["min_approvals"])

    def workers(self, *, with_gone: bool) -> list[port.WorkerLine]:
        found = self._all("workers", presence="all" if with_gone else "here")
        now = self._now()
        return [
            port.WorkerLine(
                UUID(one["worker_id"]), one["name"], one["state"], one["tags"], one["busy"],
                one["slots"], one["version"], (now - _time(one["last_heartbeat"])).total_seconds(),
            )
            for one in found
        ]  # fmt: skip

    def libraries(self, workspace: str | None) -> list[port.LibraryLine]:
        names = [workspace] if workspace else [one.name for one in self.workspaces()]
        return [
            port.LibraryLine(
                one["workspace"], one["name"], one["address"], one["ref"],
                one["commit"] or one["tree"], _time(one["pinned_at"]), one["pinned_by"],
                one["used_by"],
            )
            for name in names
            for one in self._server.get("workspaces", name, "libraries")
        ]  # fmt: skip

    def refresh_libraries(self, workspace: str, name: str | None) -> None:
        found = self.libraries(workspace) if name is None else []
        for one in [name] if name is not None else [row.name for row in found]:
            path = ("workspaces", workspace, "libraries", one, "refresh")
            self._server.send("POST", *path)

    def secrets(self, workspace: str) -> list[port.SecretLine]:
        found = self._server.get("workspaces", workspace, "secrets")
        return [
            port.SecretLine(one["name"], _time(one["updated_at"]), one["updated_by"])
            for one in found
        ]

    def store_secret(self, workspace: str, name: str, value: str) -> None:
        body = {"value": value}
        self._server.send("PUT", "workspaces", workspace, "secrets", name, body=body)

    def remove_secret(self, workspace: str, name: str) -> None:
        self._server.send("DELETE", "workspaces", workspace, "secrets", name)

    def connections(self, workspace: str) -> list[port.ConnectionLine]:
        found = self._server.get("workspaces", workspace, "connections")
        return [
            port.ConnectionLine(
                one["name"], one["type"], one["source"], one["overrides"], one.get("version"),
                len(one["used_by"]), one.get("last_check", {}).get("status"), one.get("problem"),
            )
            for one in found
        ]  # fmt: skip

    def store_connection(
        self, workspace: str, name: str, kind: str | None, values: Mapping[str, Any]
    ) -> int:
        method = "PATCH" if kind is None else "PUT"
        body = {"values": dict(values), **({} if kind is None else {"type": kind})}
        place = ("workspaces", workspace, "connections", name)
        return int(self._server.send(method, *place, body=body)["version"])

    def remove_connection(self, workspace: str, name: str) -> bool:
        place = ("workspaces", workspace, "connections", name)
        return bool(self._server.send("DELETE", *place)["is_in_files"])

    def check_connection(self, workspace: str, name: str, email: str | None) -> UUID:
        place = ("workspaces", workspace, "connections", name, "check")
        return UUID(self._server.send("POST", *place)["job_id"])

    def audit(self, wanted: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        page = self._server.get("audit", limit=PAGE, **wanted)
        yield from page["items"]
        while page["next"] is not None:
            page = self._server.get("audit", limit=PAGE, cursor=page["next"], **wanted)
            yield from page["items"]

    def remove_workspace(self, name: str) -> int:
        return int(self._server.send("DELETE", "workspaces", name)["removed_jobs"])

    def triggers(self, workspace: str | None) -> list[port.TriggerLine]:
        return [
            port.TriggerLine(
                one["workspace"], one["name"], one["state"], one["type"], one["fires"],
                one.get("target_task") or one["task"], [_time(at) for at in one["next_runs"]],
                _when(one.get("last_fired_at")), one["failures"], one["last_error"],
            )
            for one in self._all("triggers", workspace=workspace)
        ]  # fmt: skip

    def act_on_trigger(self, workspace: str, name: str, what: str, email: str | None) -> str:
        place = ("workspaces", workspace, "triggers", name)
        if what in ("send-again", "discard"):
            dealt = self._server.send("POST", *place, "dead-letters", "all", what)["items"]
            return port.dealt([(one["status"], one["reason"]) for one in dealt])
        said = self._server.send("POST", *place, what)
        if what == "fire":
            return str(said.get("job_id") or f"The trigger fired; it {said['reason']}.")
        return f"Trigger '{name}' " + ("is paused." if what == "pause" else "fires again.")

    def state(self, workspace: str, task: str, version: int | None) -> port.StateView:
        older = () if version is None else ("versions", version)
        found = self._server.get(*_state_of(workspace, task), *older)
        files = [(one["path"], one["size_bytes"]) for one in found["files"]]
        return port.StateView(found["version"], found["values"], files)

    def state_history(self, workspace: str, task: str) -> list[port.StateVersionLine]:
        return [
            port.StateVersionLine(
                one["version"], _time(one["created_at"]), one["source"],
                UUID(one["job_id"]) if one["job_id"] else None, one["step_name"], one["by"],
                one["written"], one["files"],
            )
            for one in self._all(*_state_of(workspace, task), "history")
        ]  # fmt: skip

    def restore_state(self, workspace: str, task: str, version: int, email: str | None) -> int:
        place = (*_state_of(workspace, task), "versions", version, "restore")
        return int(self._server.send("POST", *place)["version"])

    def takers(self, tag_set: str, workspace: str) -> list[str]:
        told = "--workspace asks the database: use `manage.py plan` on the server for that"
        raise InputError({"workspace": told})

    def unserved(self, workspace: str) -> str | None:
        told = "--workspace asks the database: use `manage.py validate` on the server for that"
        raise InputError({"workspace": told})

    def connection_notes(self, workspace: str, definition: Definition) -> list[str]:
        raise InputError({"workspace": "--workspace asks the database: use `manage.py` for that"})

    def import_folder(self, name: str, path: Path, directory: str = "") -> port.Imported:
        raise NotFound(ON_THE_SERVER)

    def import_git(self, name: str, address: str, ref: str, credential: str) -> port.Imported:
        raise NotFound(ON_THE_SERVER)


def _common(first: str, last: str) -> str:
    """What two ids have in common at their beginning."""
    same = next(
        (at for at, pair in enumerate(zip(first, last, strict=True)) if pair[0] != pair[1]), 32
    )
    return first[:same]


def _step(said: Mapping[str, Any]) -> port.StepLine:
    return port.StepLine(
        said["step_name"], said["status"], _when(said["started_at"]), _when(said["completed_at"]),
        said["error_message"], _when(said["retry_at"]),
        [
            port.AttemptLine(
                one["status"], one["worker"], one["exit_code"], one["error"],
                _when(one["started_at"]), _when(one["ended_at"]),
            )
            for one in said["attempts"]
        ],
    )  # fmt: skip


def _action(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """With times in its runs and allocations, whose durations the report shows."""
    timed = {key: [_timed(part) for part in said[key]] for key in ("runs", "allocations")}
    return {**said, **timed}


def _timed(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: _when(value) if key.endswith("_at") else value for key, value in part.items()}


def _relative(said: Mapping[str, Any]) -> Relative:
    return Relative(
        UUID(said["id"]), _id(said["retry_of"]), _id(said["parent"]), said["parent_step"],
        said["source_type"], said["source_id"], said["task"],
    )  # fmt: skip


def _lines(job_id: UUID, text: str) -> Iterable[port.LogLine]:
    for record in map(json.loads, filter(None, text.split("\n"))):
        yield port.LogLine(job_id, record["step"], record["line"])


def _id(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


def _state_of(workspace: str, task: str) -> tuple[str, ...]:
    """The address of what a task remembers, or its workspace."""
    return ("workspaces", workspace, *(("tasks", task) if task else ()), "state")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _when(text: str | None) -> datetime | None:
    return None if text is None else _time(text)
