"""What a worker says of its work: one line an event, with ids as fields, and never a secret."""

from __future__ import annotations

import json
import logging

import pytest

from engine.errors import PlatformError
from engine.orders import StepOutcome, Verdict
from engine.plain import JsonFormatter, TextFormatter
from tests.workers.fakes import FakeLedger, FakeRunner, claim, material


class Lines(logging.Handler):
    """Keeps what a formatter makes of each record."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def said():
    """JSON lines of the worker's logger, while a test runs."""
    handler, logger = Lines(JsonFormatter()), logging.getLogger("stroem.worker")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in handler.lines]
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_each_step_is_claimed_and_finished_in_one_line_with_its_ids(bench, said):
    ledger = FakeLedger(claim(1, name="build"), claim(2, name="ship"))
    outcomes = {"build": StepOutcome(Verdict.SUCCEEDED, 0), "ship": StepOutcome(Verdict.FAILED, 3)}
    bench(ledger, FakeRunner(lambda order, lines, stop: outcomes[order.step_name])).start()
    ledger.wait_for(lambda: sum(line["message"] == "finished" for line in said()) == 2)
    events = {(line["message"], line["step"]): line for line in said() if "step" in line}
    assert events["claimed", "build"]["job"] == str(claim(1).job_id)
    assert events["finished", "build"]["status"] == "succeeded"
    assert events["finished", "ship"]["status"] == "failed"
    assert events["finished", "ship"]["exit_code"] == 3
    assert events["finished", "ship"]["attempt"] == claim(2).name
    assert all(0 <= events["finished", name]["duration_s"] < 10 for name in outcomes)


def test_an_error_of_a_runner_is_told_without_the_secret_in_it(bench, said):
    ledger = FakeLedger(claim(1))
    ledger.material_of = lambda _: material(masks=("hunter2-hunter2",))

    def fail(order, lines, stop):
        raise PlatformError("the engine refused hunter2-hunter2")

    bench(ledger, FakeRunner(fail)).start()
    ledger.wait_for(lambda: any(line["message"] == "finished" for line in said()))
    told = json.dumps(said())
    assert "the engine refused" in told and "hunter2" not in told


def test_a_lost_database_is_told_once_and_so_is_its_return(bench, said):
    ledger = FakeLedger()
    parts = bench(ledger, lease_s=3.0).start()
    ledger.outages["renew"] = 3
    ledger.wait_for(lambda: ledger.calls.count("renew") >= 5)
    assert parts.presence.may_claim
    away = [line for line in said() if line["message"].startswith("the database does not answer")]
    back = [line for line in said() if line["message"] == "the database answers again"]
    assert len(away) == 1 and away[0]["level"] == "warning"
    assert len(back) == 1 and back[0]["away_s"] > 0


RECORD = logging.LogRecord("stroem.worker", logging.INFO, "x.py", 1, "claimed", None, None)


def test_text_lines_show_fields_as_key_and_value():
    record = logging.makeLogRecord(
        {**RECORD.__dict__, "fields": {"step": "build it", "job": "3f-1", "exit_code": None}}
    )
    line = TextFormatter().format(record)
    assert line.endswith('INFO stroem.worker: claimed step="build it" job=3f-1')


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_no_line_names_the_password_of_an_address(formatter):
    record = logging.makeLogRecord(
        {**RECORD.__dict__, "msg": "no broker at amqp://me:s3cret@host:5672//"}
    )
    line = formatter.format(record)
    assert "s3cret" not in line and "amqp://host:5672//" in line


def test_a_json_line_is_one_line_with_the_traceback_in_it():
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.makeLogRecord({**RECORD.__dict__, "exc_info": info, "fields": {"job": "j"}})
    line = JsonFormatter().format(record)
    assert "\n" not in line and json.loads(line)["message"].endswith("first\nsecond")
