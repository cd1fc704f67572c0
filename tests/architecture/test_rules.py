"""Every rule holds for the whole house, and every rule finds what it is there to find."""

from __future__ import annotations

import pytest

from tests.architecture.house import Source, sources
from tests.architecture.rules import RULES, Rule

BY_NAME = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def test_the_house_keeps_the_rules() -> None:
    """All at once, so that each file is parsed once."""
    seen = dict.fromkeys((rule.name for rule in RULES), 0)
    broken = []
    tops = {top for rule in RULES for top in rule.where}
    outer = [top for top in tops if not any(top.startswith(f"{other}/") for other in tops)]
    for source in sources(*outer):
        if source.path.startswith("tests/architecture/"):
            continue
        for rule in RULES:
            if any(f"{source.path}/".startswith(f"{top}/") for top in rule.where):
                seen[rule.name] += 1
                broken += [
                    f"{rule.name}: {source.path}:{line}: {what}"
                    for line, what in rule.check(source)
                ]
    assert not broken, "\n".join(broken)
    assert all(seen.values()), seen


@BY_NAME
def test_the_rule_finds_a_planted_example(rule: Rule) -> None:
    assert rule.path.startswith(rule.where)
    assert list(rule.check(Source(rule.path, rule.text)))


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        (
            "status_is_written_by_the_pen_only",
            "apps/jobs/services.py",
            "Step.objects.filter(pk=1).update(status='x')",
        ),
        (
            "status_is_written_by_the_pen_only",
            "apps/jobs/database/sql.py",
            "A = 'UPDATE step SET fence = 1, status = %s'",
        ),
        (
            "status_is_written_by_the_pen_only",
            "apps/jobs/ledger.py",
            "step.save(update_fields=['status'])",
        ),
        (
            "status_is_written_by_the_pen_only",
            "apps/jobs/ledger.py",
            "setattr(step, 'status', 'failed')",
        ),
        (
            "sql_writes_the_tables_of_its_own_app",
            "apps/jobs/ledger.py",
            "A = 'INSERT INTO fleet_worker (id) VALUES (1)'",
        ),
        (
            "sql_writes_the_tables_of_its_own_app",
            "apps/hooks/services.py",
            "A = 'DELETE FROM jobs_stepevent WHERE id = 1'",
        ),
        (
            "statuses_are_members_of_their_enum",
            "apps/jobs/services.py",
            "if job.status == 'failed': pass",
        ),
        (
            "statuses_are_members_of_their_enum",
            "apps/jobs/services.py",
            "A = \"SELECT 1 FROM jobs_step WHERE status IN ('ready', 'redy')\"",
        ),
        ("modules_are_named_for_what_they_hold", "engine/common/dates.py", ""),
        (
            "signals_do_not_carry_the_flow",
            "workers/app.py",
            "from celery.signals import task_success",
        ),
        ("clocks_stay_above_the_services", "engine/planner.py", "now = datetime.datetime.now(tz)"),
        (
            "the_engine_has_no_clock_no_dice_no_wire",
            "engine/spec/parser.py",
            "text = open(path).read()",
        ),
        ("commands_are_lists", "workers/git.py", "os.system(line)"),
        ("html_is_marked_safe_in_adminkit_only", "apps/jobs/admin.py", "return SafeString(text)"),
        ("yaml_is_loaded_safely", "engine/spec/parser.py", "from yaml import unsafe_load"),
        ("text_is_not_run_as_python", "workers/bells.py", "import pickle"),
    ],
)
def test_the_rule_finds_the_other_ways_to_break_it(name: str, path: str, text: str) -> None:
    rule = next(rule for rule in RULES if rule.name == name)
    assert list(rule.check(Source(path, text)))


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        (
            "status_is_written_by_the_pen_only",
            "apps/jobs/transitions/pen.py",
            "A = 'UPDATE step SET status = %s'",
        ),
        (
            "status_is_written_by_the_pen_only",
            "apps/jobs/services.py",
            "B = 'UPDATE step SET a = 1 WHERE status = %s'",
        ),
        (
            "status_is_written_by_the_pen_only",
            "apps/jobs/services.py",
            "Step(status='pending').save()",
        ),
        (
            "sql_writes_the_tables_of_its_own_app",
            "apps/workflow_actions/sweeps.py",
            "A = 'SELECT 1 FROM jobs_step FOR UPDATE'",
        ),
        (
            "statuses_are_members_of_their_enum",
            "apps/jobs/services.py",
            "A = \"SELECT 1 FROM jobs_step WHERE status = 'ready'\"",
        ),
        (
            "signals_do_not_carry_the_flow",
            "workers/app.py",
            "from celery.signals import worker_ready",
        ),
        ("clocks_stay_above_the_services", "apps/jobs/services.py", "now = timezone.now()"),
        (
            "text_is_not_run_as_python",
            "engine/templating.py",
            "code = compile(text, 'template', 'exec')",
        ),
        ("text_is_not_run_as_python", "engine/routing.py", "pattern = re.compile('x')"),
    ],
)
def test_the_rule_leaves_alone_what_is_allowed(name: str, path: str, text: str) -> None:
    rule = next(rule for rule in RULES if rule.name == name)
    assert not list(rule.check(Source(path, text)))
