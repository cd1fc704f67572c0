"""Every rule holds for the whole house, and every rule finds what it is there to find."""

from __future__ import annotations

import pytest

from tests.architecture.house import Source, sources
from tests.architecture.rules import RULES, Rule

BY_NAME = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


@BY_NAME
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    broken = [
        f"{source.path}:{line}: {what}"
        for source in sources(*rule.where)
        if not source.path.startswith("tests/architecture/")
        for line, what in rule.check(source)
    ]
    assert not broken, f"{rule.name}:\n" + "\n".join(broken)


@BY_NAME
def test_the_rule_finds_a_planted_example(rule: Rule) -> None:
    assert rule.path.split("/")[0] in rule.where
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
        ("text_is_not_run_as_python", "workers/tasks.py", "import pickle"),
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
