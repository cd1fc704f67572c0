"""What imports cannot show, each as a function from one source file to the lines that break the
rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from engine import lifecycle
from tests.architecture.house import EVERYTHING, PACKAGES, ROOT, Source, dotted

Finding = tuple[int, str]
Check = Callable[[Source], Iterator[Finding]]


@dataclass(frozen=True)
class Rule:
    """A check, where it looks, and one planted example (path, text) that it must find."""

    name: str
    check: Check
    where: tuple[str, ...]
    path: str
    text: str


STATUS_SQL = re.compile(
    r"\bupdate\b.*\bset\b(?:(?!\bwhere\b).)*\bstatus\s*=", re.IGNORECASE | re.DOTALL
)
WRITERS = {"bulk_update", "save"}


def status_is_written_by_the_pen_only(source: Source) -> Iterator[Finding]:
    """Only apps/<app>/transitions* changes a status; creating a row with its first one is no
    change."""
    if source.package == "apps" and source.room.startswith("transitions"):
        return
    for node in source.nodes:
        targets: list[ast.expr] = []
        match node:
            case ast.Assign():
                targets = node.targets
            case ast.AnnAssign(value=ast.expr()) | ast.AugAssign():
                targets = [node.target]
            case ast.Constant(value=str(text)) if STATUS_SQL.search(text):
                yield node.lineno, "SQL that sets a status"
            case ast.Call(func=ast.Attribute(attr="update"), keywords=keywords):
                if any(keyword.arg == "status" for keyword in keywords):
                    yield node.lineno, "update(status=...)"
            case ast.Call(func=ast.Name(id="setattr"), args=[_, ast.Constant(value="status"), _]):
                yield node.lineno, "setattr(..., 'status', ...)"
            case ast.Call(func=ast.Attribute(attr=name)) if name in WRITERS:
                named = [leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)]
                if "status" in named:
                    yield node.lineno, f"{name}() of the field status"
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr == "status":
                yield target.lineno, "an assignment to .status"


VAGUE = {"utils", "util", "helpers", "helper", "misc", "common"}


def modules_are_named_for_what_they_hold(source: Source) -> Iterator[Finding]:
    for part in VAGUE.intersection(source.parts):
        yield 1, f"a module or folder called {part}"


FLOW_SIGNALS = (
    "django.db.models.signals",
    "django.dispatch",
    "django.core.signals",
    "django.test.signals",
)
CELERY_FLOW = re.compile(r"celery\.signals\.(task_|before_task_|after_task_)")


def signals_do_not_carry_the_flow(source: Source) -> Iterator[Finding]:
    """Celery's signals about its own process are allowed, those about tasks and Django's are
    not."""
    for node, name in source.imported():
        if name.startswith(FLOW_SIGNALS) or CELERY_FLOW.match(name):
            yield node.lineno, f"import of {name}"


CLOCKS = re.compile(
    r"(?:^|\.)(?:timezone\.(?:now|localtime|localdate)|datetime\.(?:now|utcnow|today)|date\.today"
    r"|time\.(?:time|time_ns|monotonic|monotonic_ns|perf_counter|sleep))$"
)
BELOW_SERVICES = ("errors", "querysets", "models", "transitions", "snapshots")


def clocks_stay_above_the_services(source: Source) -> Iterator[Finding]:
    """Pure code takes `now` as an argument; rows take clock_timestamp() from the database."""
    if source.package == "apps" and not source.room.startswith(BELOW_SERVICES):
        return
    for call in source.calls():
        if CLOCKS.search(dotted(call.func)):
            yield call.lineno, f"a call of {dotted(call.func)}"


IMPURE = {
    "time",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "asyncio",
    "threading.Thread",
    "urllib.request",
    "http.client",
}


def the_engine_has_no_clock_no_dice_no_wire(source: Source) -> Iterator[Finding]:
    for node, name in source.imported():
        if any(name == module or name.startswith(f"{module}.") for module in IMPURE):
            yield node.lineno, f"import of {name}"
    for call in source.calls():
        if dotted(call.func) in {
            "open",
            "uuid.uuid4",
            "uuid4",
            "os.environ.get",
            "os.getenv",
            "input",
        }:
            yield call.lineno, f"a call of {dotted(call.func)}"


PLAIN_PACKAGES = {"management", "commands", "templatetags"}


def every_room_has_a_charter(source: Source) -> Iterator[Finding]:
    if source.parts[-1] != "__init__" or PLAIN_PACKAGES.intersection(source.parts):
        return
    if len((ast.get_docstring(source.tree) or "").split()) < 8:
        yield 1, "an __init__.py without a docstring that says what belongs here"


def html_is_marked_safe_in_adminkit_only(source: Source) -> Iterator[Finding]:
    """SafeString may be named as a type, not called."""
    if source.path.startswith("apps/adminkit/"):
        return
    for node, name in source.imported():
        if name.endswith(".mark_safe"):
            yield node.lineno, f"import of {name}"
    for call in source.calls():
        if dotted(call.func).rsplit(".", 1)[-1] in {"mark_safe", "SafeString", "SafeText"}:
            yield call.lineno, f"a call of {dotted(call.func)}"


def archives_are_unpacked_entry_by_entry(source: Source) -> Iterator[Finding]:
    for call in source.calls():
        if isinstance(call.func, ast.Attribute) and call.func.attr == "extractall":
            yield call.lineno, ".extractall("


YAML_LOADERS = {"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"}


def yaml_is_loaded_safely(source: Source) -> Iterator[Finding]:
    for call in source.calls():
        front, _, name = dotted(call.func).rpartition(".")
        if front == "yaml" and name in YAML_LOADERS:
            yield call.lineno, f"a call of yaml.{name}"
    for node, name in source.imported():
        if name.startswith("yaml.") and name.removeprefix("yaml.") in YAML_LOADERS:
            yield node.lineno, f"import of {name}"


def commands_are_lists(source: Source) -> Iterator[Finding]:
    for call in source.calls():
        for keyword in call.keywords:
            if keyword.arg == "shell" and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                yield call.lineno, "shell=True"
        if dotted(call.func) in {
            "os.system",
            "os.popen",
            "subprocess.getoutput",
            "subprocess.getstatusoutput",
        }:
            yield call.lineno, f"a call of {dotted(call.func)}"


def text_is_not_run_as_python(source: Source) -> Iterator[Finding]:
    if source.path.startswith("engine/templating"):
        return
    for call in source.calls():
        if isinstance(call.func, ast.Name) and call.func.id in {
            "eval",
            "exec",
            "compile",
            "__import__",
        }:
            yield call.lineno, f"a call of {call.func.id}"
    for node, name in source.imported():
        if name.split(".")[0] in {"pickle", "marshal", "shelve", "dill", "cloudpickle"}:
            yield node.lineno, f"import of {name}"


WRITES = re.compile(
    r"\b(?:insert\s+into|update|delete\s+from|truncate)\s+(?:table\s+|only\s+)*([a-z_]+)",
    re.IGNORECASE,
)
APP_LABELS = frozenset(
    path.name for path in (ROOT / "apps").iterdir() if (path / "models.py").is_file()
)


def texts_of(source: Source) -> Iterator[tuple[int, str]]:
    """Every text in the file, and the .sql files beside it."""
    for node in source.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    yield from ((1, text) for text in source.statements())


def sql_writes_the_tables_of_its_own_app(source: Source) -> Iterator[Finding]:
    """Who wants a row of another app changed asks the pen of that app."""
    for line, text in texts_of(source):
        for table in WRITES.findall(text):
            owner = next((label for label in APP_LABELS if table.startswith(f"{label}_")), "")
            if owner and owner != source.parts[1]:
                yield line, f"SQL that writes {table}"


STATUSES = frozenset(
    member.value
    for enum in vars(lifecycle).values()
    if isinstance(enum, type) and issubclass(enum, StrEnum) and enum.__name__.endswith("Status")
    for member in enum
)
STATUS_IN_SQL = re.compile(
    r"\bstatus\s*(?:=|<>|(?:not\s+)?in\s*\()\s*('[a-z_]+'(?:\s*,\s*'[a-z_]+')*)", re.I
)


def statuses_are_members_of_their_enum(source: Source) -> Iterator[Finding]:
    """In Python a status is a member of an enum; SQL may spell it, as the enum does."""
    for node in source.nodes:
        match node:
            case ast.keyword(arg=str(name)) if name.split("__")[0] == "status":
                sides: list[ast.expr] = [node.value]
            case ast.Compare() if "status" in (dotted(node.left).rsplit(".", 1)[-1],):
                sides = node.comparators
            case _:
                continue
        for side in sides:
            for leaf in ast.walk(side):
                if isinstance(leaf, ast.Constant) and leaf.value in STATUSES:
                    yield side.lineno, f"the status '{leaf.value}' as a text"
    for line, text in texts_of(source):
        for words in STATUS_IN_SQL.findall(text):
            for word in re.findall(r"'([a-z_]+)'", words):
                if word not in STATUSES:
                    yield line, f"SQL with the status '{word}', which no enum has"


RULES = (
    Rule(
        "status_is_written_by_the_pen_only",
        status_is_written_by_the_pen_only,
        ("apps", "workers", "console", "standalone", "stroem_project"),
        "apps/jobs/services.py",
        "step.status = 'completed'\n",
    ),
    Rule(
        "sql_writes_the_tables_of_its_own_app",
        sql_writes_the_tables_of_its_own_app,
        ("apps",),
        "apps/workflow_actions/transitions.py",
        "HOLD = 'WITH h AS (SELECT 1) UPDATE jobs_step SET deps_left = 1'\n",
    ),
    Rule(
        "statuses_are_members_of_their_enum",
        statuses_are_members_of_their_enum,
        ("apps/jobs", "apps/workflow_actions", "apps/fleet"),
        "apps/jobs/upkeep/sweeps.py",
        "Job.objects.filter(status__in=['pending', 'running'])\n",
    ),
    Rule(
        "modules_are_named_for_what_they_hold",
        modules_are_named_for_what_they_hold,
        EVERYTHING,
        "apps/jobs/utils.py",
        "",
    ),
    Rule(
        "signals_do_not_carry_the_flow",
        signals_do_not_carry_the_flow,
        PACKAGES,
        "apps/hooks/apps.py",
        "from django.db.models.signals import post_save\n",
    ),
    Rule(
        "clocks_stay_above_the_services",
        clocks_stay_above_the_services,
        ("apps", "engine"),
        "apps/jobs/transitions/pen.py",
        "from django.utils import timezone\nnow = timezone.now()\n",
    ),
    Rule(
        "the_engine_has_no_clock_no_dice_no_wire",
        the_engine_has_no_clock_no_dice_no_wire,
        ("engine",),
        "engine/planner.py",
        "import random\n",
    ),
    Rule(
        "every_room_has_a_charter",
        every_room_has_a_charter,
        PACKAGES,
        "apps/triggers/__init__.py",
        '"""Triggers."""\n',
    ),
    Rule(
        "html_is_marked_safe_in_adminkit_only",
        html_is_marked_safe_in_adminkit_only,
        PACKAGES,
        "apps/jobs/admin.py",
        "from django.utils.safestring import mark_safe\n",
    ),
    Rule(
        "archives_are_unpacked_entry_by_entry",
        archives_are_unpacked_entry_by_entry,
        PACKAGES,
        "workers/revisions.py",
        "archive.extractall(target, filter='data')\n",
    ),
    Rule(
        "yaml_is_loaded_safely",
        yaml_is_loaded_safely,
        EVERYTHING,
        "engine/spec/parser.py",
        "yaml.load(text, Loader=yaml.Loader)\n",
    ),
    Rule(
        "commands_are_lists",
        commands_are_lists,
        EVERYTHING,
        "runners/processes.py",
        "subprocess.run(line, shell=True)\n",
    ),
    Rule(
        "text_is_not_run_as_python",
        text_is_not_run_as_python,
        PACKAGES,
        "engine/planner.py",
        "eval(expression)\n",
    ),
)
