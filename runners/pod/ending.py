"""How a step ended, from the state of its container, its log and its record.

Nothing that went missing ends as a success: the log says what is missing, and a step whose OUTPUT
may be among it fails.
"""

from __future__ import annotations

from dataclasses import replace

from engine.orders import ImageWork, StepOrder, StepOutcome, Verdict
from runners.containers.limits import explain_kill
from runners.lines import LineFeed
from runners.pod.logs import LogFollower
from runners.pod.policy import INIT_CONTAINER, STEP_CONTAINER
from runners.pod.record import MESSAGE_FILE, Record, read_outputs, read_record
from runners.pod.sharedlog import SharedLog
from runners.pod.status import Sight

# `type: pod` runs an image as it is, so nothing in it counts its lines
_CURE_IMAGE = f"print less, or write the OUTPUT line to {MESSAGE_FILE} too"
_CURE_SCRIPT = "print less, or keep the last OUTPUT line below 2000 bytes"


class Ending:
    """The end of one step."""

    def __init__(
        self, order: StepOrder, feed: LineFeed, log: SharedLog, follower: LogFollower | None
    ) -> None:
        self._order = order
        self._feed = feed
        self._log = log
        self._follower = follower  # of the step's container
        self._unknown = "OUTPUT"

    def conclude(self, sight: Sight) -> StepOutcome:
        match sight.stage:
            case "lost":
                error = f"The pod was taken away: {sight.reason}"
                return self._feed.outcome(Verdict.LOST, sight.exit_code, error)
            case "broken":
                tail = self._log.read_tail(INIT_CONTAINER)
                has_said = sight.exit_code is not None and tail
                error = f"{sight.reason}\n{tail}" if has_said else sight.reason
                return self._feed.outcome(Verdict.FAILED, sight.exit_code, error)
            case _:
                return self._conclude_end(sight)

    def _conclude_end(self, sight: Sight) -> StepOutcome:
        exit_code = sight.exit_code if sight.exit_code is not None else -1
        record = read_record(sight.ended)
        missing = self._find_missing(record)
        if missing:
            self._feed.say(f"{missing[0].upper()}{missing[1:]}")
        is_certain = self._settle_output(sight, record, bool(missing))
        outcome = self._feed.outcome_of(exit_code)
        if exit_code == 0 and not is_certain:
            return self._refuse(outcome, missing)
        if exit_code == 0 or self._feed.output.error is not None:
            return outcome
        return self._explain(outcome, sight, exit_code)

    def _find_missing(self, record: Record | None) -> str:
        """What is not in the log, and why; empty when all of it is."""
        follower = self._follower
        if follower is None:
            return "the log of the step could not be read"
        if record is not None:
            missing = record.lines - follower.lines
            if missing <= 0:
                return ""
            what = f"{missing} of {record.lines} lines of this step are missing"
        elif follower.is_whole and not follower.has_gap:
            return ""
        else:
            what = "lines of this step may be missing"
        if follower.missing_right:
            return f"{what}: the worker's account may not read logs"
        if not follower.is_whole:
            return f"{what}: the end of its log could not be read"
        return f"{what}: its node had thrown them away before they could be read"

    def _settle_output(self, sight: Sight, record: Record | None, is_incomplete: bool) -> bool:
        """Take an output that came beside the log; False when the output is not known."""
        output, lines = self._feed.output, read_outputs(sight.ended)
        if record is None:
            for line in lines:
                if (warning := output.feed(line)) is not None:
                    self._feed.say(warning)
        if not is_incomplete:
            return True
        if self._may_lack_state(record):
            self._unknown = "STATE"
            return False
        if record is None:
            follower = self._follower
            has_later = follower is not None and follower.is_whole and follower.has_output_after_gap
            return bool(lines and output.has_output) or has_later
        if record.knows == "here":
            return output.feed(record.output) is None
        return record.knows == "none"

    def _may_lack_state(self, record: Record | None) -> bool:
        """Whether the missing lines may be about state."""
        told = self._feed.output.state_lines
        return self._order.state is not None or (
            told < record.states if record is not None else told > 0
        )

    def _refuse(self, outcome: StepOutcome, missing: str) -> StepOutcome:
        is_away = self._follower is not None and self._follower.is_away
        cure = _CURE_IMAGE if isinstance(self._order.work, ImageWork) else _CURE_SCRIPT
        error = (
            f"The step ended well (exit code 0), but its {self._unknown} is not known: {missing}."
            f" To be safe, {cure}"
        )
        verdict = Verdict.LOST if is_away else Verdict.FAILED
        return replace(outcome, verdict=verdict, error=error, output=None, has_output=False)

    def _explain(self, outcome: StepOutcome, sight: Sight, exit_code: int) -> StepOutcome:
        error = f"Exit code: {exit_code}"
        if told := explain_kill(exit_code, self._order.resources, is_known=sight.is_out_of_memory):
            error += f"\n{told}"
        elif sight.reason not in ("", "Error", "Completed"):
            error += f"\nContainer terminated: {sight.reason}"
        tail = self._log.read_tail(STEP_CONTAINER)
        return replace(outcome, error=f"{error}\nLast lines: {tail}" if tail else error)
