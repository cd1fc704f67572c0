"""`manage.py logs`: the log of a job, so far or until it ends."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from console.follower import Follower
from console.operator_command import OperatorCommand
from console.port import BEGINNING, SERVER, LogLine
from console.screen import Screen
from engine.errors import InputError
from engine.lifecycle import JobStatus

LONGEST_TEXT = 200


class Command(OperatorCommand):
    help = "Show the log of a job. With --follow, exit code 1 if the job fails or is cancelled."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="job id, or its first characters")
        parser.add_argument(
            "--step",
            help=f"only this step, a loop with all instances; {SERVER}: the server's lines",
        )
        parser.add_argument(
            "--action", help="only this workflow action, with all its runs; `jobs JOB` lists them"
        )
        parser.add_argument(
            "--search",
            metavar="TEXT",
            help="only lines that hold this text, in either case; with --step, of this step",
        )
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object per line; without --follow"
        )
        parser.add_argument(
            "--follow",
            action="store_true",
            help="continue until the job and all that it set off have ended",
        )

    def act(self, **options: Any) -> int:
        step, action = options["step"], options["action"]
        _refuse_contradictions(options)
        job_id, screen = self.job_meant(options), self.screen(sys.stdout, options)
        if options["search"] is not None:
            self._search(job_id, options["search"], step or "", screen, options)
            return 0
        if options["follow"]:
            Follower(self.platform, job_id, screen).follow()
            return 0 if self.platform.result(job_id).status == JobStatus.COMPLETED else 1
        read = partial(self.platform.log, [job_id], step=step or "", action=action or "")
        cursor, has_more = BEGINNING, True
        while has_more:
            piece = read(cursor)
            cursor, has_more = piece.next, piece.has_more
            self._show(piece.lines, screen, options)
        screen.close()
        return 0

    def _search(
        self, job_id: UUID, text: str, step: str, screen: Screen, options: Mapping[str, Any]
    ) -> None:
        cursor, has_more, is_found = BEGINNING, True, False
        while has_more:
            found = self.platform.search_log(job_id, text, cursor, step)
            cursor, has_more = found.next, found.has_more
            is_found = is_found or bool(found.lines)
            self._show(found.lines, screen, options)
        screen.close()
        if not is_found:
            self.stderr.write("No line holds this text.")

    def _show(self, lines: Iterable[LogLine], screen: Screen, options: Mapping[str, Any]) -> None:
        is_part = options["step"] or options["action"]
        for line in lines:
            if options["json"]:
                self.stdout.write(_json(line))
            else:
                screen.line(line.text if is_part else f"{line.step} | {line.text}")


def _refuse_contradictions(options: Mapping[str, Any]) -> None:
    if options["step"] and options["action"]:
        raise InputError({"action": "give --step or --action, not both"})
    if options["search"] is not None:
        _refuse_beside_search(options)
    if not options["follow"]:
        return
    if options["json"]:
        raise InputError({"json": "--json and --follow: give one of them"})
    if options["step"] or options["action"]:
        raise InputError({"follow": "--follow shows everything; leave out --step and --action"})


def _refuse_beside_search(options: Mapping[str, Any]) -> None:
    text = options["search"]
    if not 1 <= len(text) <= LONGEST_TEXT or "\x00" in text:
        raise InputError({"search": f"--search needs a text of 1 to {LONGEST_TEXT} characters"})
    for other in ("follow", "action"):
        if options[other]:
            raise InputError({other: f"--search and --{other}: give one of them"})


def _json(line: LogLine) -> str:
    shown = {"job_id": str(line.job_id), "step": line.step, "line": line.text}
    return json.dumps(shown, ensure_ascii=False)
