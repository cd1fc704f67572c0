"""What a step is given, and what its author is told when it cannot be."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from engine.errors import PlatformError
from engine.orders import (
    ContainerWishes,
    ImageWork,
    Line,
    Resources,
    ScriptWork,
    StepOutcome,
    Verdict,
)
from engine.spec.model import Action, Artifacts, InputField, Step
from engine.state import Seen
from tests.workers.fakes import DIGEST, FakeLedger, FakeRunner, claim, material
from tests.workers.test_artifacts import Storage
from workers.artifacts import Shelf
from workers.attempts import Attempt
from workers.states import States


@pytest.fixture
def perform(bench):
    """Performs one claim of the given material; answers ledger, runner and what ended."""

    def run(given, runner=None, *, one=None, stop=None):
        ledger = FakeLedger()
        ledger.material_of = lambda _: given
        runner = runner or FakeRunner()
        parts = bench(ledger, runner)
        attempt = Attempt(one or claim(7), 0.0)
        if stop:
            attempt.stop.set(stop)
        performed = parts.execution.perform(attempt)
        run.order = runner.orders[-1] if runner.orders else None
        run.performed, run.parts, run.attempt = performed, parts, attempt
        parts.execution.tidy(attempt, performed)
        return ledger, runner, performed.ended

    return run


def failed(ended) -> str:
    assert ended.report.outcome.verdict is Verdict.FAILED
    return ended.report.outcome.error


def test_input_flows_from_the_job_through_the_step_into_script_env_and_args(perform):
    action = Action(
        type="script",
        script="echo {{ input.who }} {{ say_hi.output.text }}",
        env={"WHO": "{{ input.who | upper }}"},
        args=("--n", "{{ input.n }}"),
        input={"who": InputField("string"), "n": InputField("integer")},
    )
    step = Step(action="greet", input={"who": "{{ input.name }}", "n": "3"})
    _, runner, ended = perform(
        material(
            action, step, job_input={"name": "Ada"}, outputs={"say_hi": {"output": {"text": "hi"}}}
        )
    )
    order = runner.orders[0]
    assert isinstance(order.work, ScriptWork)
    assert order.work.code == "echo Ada hi"
    assert order.work.args == ("--n", "3")
    assert order.env["WHO"] == "ADA"
    assert ended.report.input == {"who": "Ada", "n": 3}


@pytest.mark.parametrize(
    ("script", "is_open"),
    [
        ("psql -c 'select 1'", True),
        # nobody knows what becomes of a value that is filled in
        ("psql -c 'select {{ input.n }}'", False),
        ("curl -H {{ secret.token | upper }} example.org", False),
        # the author wrote down what is a secret elsewhere
        ("curl -H hunter2hunter2 example.org", False),
    ],
)
def test_only_a_script_without_anything_filled_in_or_secret_is_open(perform, script, is_open):
    action = Action(type="script", script=script, input={"n": InputField("integer")})
    given = material(
        action, Step("a", input={"n": 1}), secrets={"token": "hunter2hunter2"}, masks=("hunter2hunter2",)
    )  # fmt: skip
    _, runner, _ = perform(given)
    assert runner.orders[0].work.is_open is is_open


def test_a_text_that_a_template_makes_of_a_secret_is_hidden_too(perform):
    action = Action(
        type="script",
        script="x",
        env={
            "UP": "{{ secret.k | upper }}",
            "LONG": "{{ secret.k | length }}",
            "R": "{{ input.r }}",
        },
        args=("{{ secret.k | replace(from='t', to='7') }}",),
    )
    step = Step("a", input={"r": "{{ secret.k | reverse }}", "name": "{{ input.name | upper }}"})
    given = material(
        action,
        step,
        job_input={"name": "somebody"},
        secrets={"k": "topsecret"},
        masks=("topsecret",),
    )
    _, _, ended = perform(given)
    assert set(ended.report.masks) == {"topsecret", "TOPSECRET", "7opsecre7", "tercespot"}


def test_data_is_never_rendered_again(perform):
    action = Action(
        type="script",
        script="echo {{ input.text }}",
        input={
            "text": InputField("string"),
            "more": InputField("string", default="x{{ secret.k }}", has_default=True),
        },
    )
    step = Step(action="a", input={"text": "{{ input.given }}"})
    hostile = "{{ secret.k }} {% raw"
    _ledger, runner, ended = perform(
        material(action, step, job_input={"given": hostile}, secrets={"k": "topsecret"})
    )
    assert runner.orders[0].work.code == f"echo {hostile}"
    assert ended.report.input == {"text": hostile, "more": "xtopsecret"}


def test_declared_fields_that_the_step_does_not_set_come_from_the_job_then_from_defaults(perform):
    action = Action(
        type="script",
        script="true",
        input={
            "env": InputField("string"),
            "region": InputField("string", default="eu", has_default=True),
            "absent": InputField("string"),
        },
    )
    _, _, ended = perform(
        material(action, job_input={"env": "prod", "other": "not declared", "region": None})
    )
    assert ended.report.input == {"env": "prod", "region": "eu"}


def test_a_default_is_not_even_rendered_where_a_value_is_given(perform):
    fields = {"v": InputField("string", default="{{ secret.missing }}", has_default=True)}
    _, _, ended = perform(
        material(Action(type="script", script="true", input=fields), Step("a", input={"v": "x"}))
    )
    assert ended.report.input == {"v": "x"}


def test_connections_are_replaced_by_their_values(perform):
    action = Action(
        type="script", script="psql {{ input.db.host }}", input={"db": InputField("postgres")}
    )
    connections = {
        "prod": {"type": "postgres", "host": "db1"},
        "queue": {"type": "amqp", "host": "q"},
    }
    _, runner, _ = perform(
        material(action, Step("a", input={"db": "prod"}), connections=connections)
    )
    assert runner.orders[0].work.code == "psql db1"
    assert json.loads(runner.orders[0].env["STROEM_INPUT_DB"]) == {"host": "db1"}
    _, _, ended = perform(
        material(action, Step("a", input={"db": "none"}), connections=connections)
    )
    assert (
        failed(ended)
        == "Step 'build': Input field 'db' references connection 'none' which does not exist"
    )
    _, _, ended = perform(
        material(action, Step("a", input={"db": "queue"}), connections=connections)
    )
    assert failed(ended).endswith("expects type 'postgres' but connection 'queue' is type 'amqp'")


def test_a_step_finds_its_inputs_in_the_environment_and_in_a_file_of_its_own(perform):
    seen = {}

    def look(order, lines, stop):
        path = order.input_path
        seen["file"] = json.loads(path.read_text())
        seen["mode"] = path.stat().st_mode & 0o777
        seen["scratch"] = order.scratch_dir.stat().st_mode & 0o777
        seen["inside"] = path.parent == order.scratch_dir
        return StepOutcome(Verdict.SUCCEEDED, 0)

    given = {"user-name": "Ada; rm -rf /", "tags": ["a", 1], "ok": True, "none": None, "n": 1.5}
    _, runner, _ = perform(material(step=Step("a", input=given)), FakeRunner(look))
    env = runner.orders[0].env
    assert env["STROEM_INPUT_USER_NAME"] == "Ada; rm -rf /"
    assert env["STROEM_INPUT_TAGS"] == '["a", 1]'
    assert (env["STROEM_INPUT_OK"], env["STROEM_INPUT_N"]) == ("true", "1.5")
    assert seen == {"file": seen["file"], "mode": 0o600, "scratch": 0o700, "inside": True}
    assert seen["file"]["user-name"] == "Ada; rm -rf /"


def test_a_step_knows_who_it_is(perform):
    _, runner, _ = perform(material(environment={"TORC_JOB_ID": "5"}))
    order = runner.orders[0]
    assert {
        name: order.env[name] for name in order.env if name.startswith(("STROEM_", "TORC_"))
    } == {
        "STROEM_JOB_ID": "00000000-0000-0000-0000-000000000007",
        "STROEM_TASK_NAME": "ship",
        "STROEM_STEP_NAME": "build",
        "STROEM_WORKSPACE": "default",
        "STROEM_ATTEMPT_NUMBER": "1",
        "TORC_JOB_ID": "5",
    }
    assert order.attempt == "0000000007-7-1"


BIG = "x" * 150_000
NO_ROOM = (
    "input 'big' (150,000 bytes) does not fit into STROEM_INPUT_BIG: a variable holds at most"
    " 100,000; read it from the JSON file named by STROEM_INPUTS_FILE"
)


def test_a_value_too_large_for_the_environment_is_in_the_file_and_log_and_variable_say_so(perform):
    _ledger, runner, ended = perform(material(step=Step("a", input={"big": BIG})))
    assert runner.orders[0].env["STROEM_INPUT_BIG"] == NO_ROOM
    assert [line.text for _, lines in ended.batches for line in lines] == [f"Warning: {NO_ROOM}"]


def test_values_too_large_together_are_left_out_in_order(perform):
    given = {f"v{number}": "x" * 90_000 for number in range(7)}
    _ledger, runner, ended = perform(material(step=Step("a", input=given)))
    env = runner.orders[0].env
    assert len(env["STROEM_INPUT_V5"]) == 90_000
    assert "all inputs together may have 600,000 in variables" in env["STROEM_INPUT_V6"]
    (note,) = [line.text for _, lines in ended.batches for line in lines]
    assert note.startswith("Warning: input 'v6'")


INLINE = "_inline:ship:build"


def test_an_inline_step_sees_the_input_of_its_job_below_its_own(perform):
    seen = {}

    def look(order, lines, stop):
        seen.update(json.loads(order.input_path.read_text()))
        return StepOutcome(Verdict.SUCCEEDED, 0)

    action = Action(type="script", script="echo {{ input.version }} {{ input.mode }}")
    job = {"version": "3.10", "mode": "job", "none": None, "big": BIG}
    _, runner, ended = perform(
        material(action, Step(INLINE, input={"mode": "own"}), job_input=job), FakeRunner(look)
    )
    (order,) = runner.orders
    assert order.work.code == "echo 3.10 own"
    assert order.env["STROEM_INPUT_VERSION"] == "3.10"
    assert order.env["STROEM_INPUT_MODE"] == "own"
    assert "STROEM_INPUT_NONE" not in order.env
    assert seen == {"version": "3.10", "mode": "own", "big": BIG}
    assert order.env["STROEM_INPUT_BIG"] == NO_ROOM
    assert not ended.batches  # the step did not ask for it
    assert ended.report.input == {"mode": "own"}  # what is stored and shown is the step's own


def test_a_named_action_sees_of_the_job_only_what_it_declares(perform):
    job = {"version": "3.10", "mode": "job"}
    fields = {"version": InputField("string")}
    _, runner, _ = perform(
        material(Action(type="script", script="x", input=fields), Step("a"), job_input=job)
    )
    env = runner.orders[0].env
    assert env["STROEM_INPUT_VERSION"] == "3.10"
    assert "STROEM_INPUT_MODE" not in env


@pytest.mark.parametrize(
    ("action", "step", "sentence"),
    [
        (
            Action(type="script", script="{{ input.nope }}"),
            Step("a"),
            "Step 'build': Failed to render script",
        ),
        (
            Action(type="script", script="x", env={"A": "{{ b.c }}"}),
            Step("a"),
            "Failed to render env.A",
        ),
        (
            Action(type="script", script="x", args=("{{ b.c }}",)),
            Step("a"),
            "Failed to render args[0]",
        ),
        (
            Action(type="script", script="x"),
            Step("a", input={"v": "{{ b.c }}"}),
            "Failed to render input 'v'",
        ),
        (Action(type="docker", image="{{ b.c }}"), Step("a"), "Failed to render image"),
        (
            Action(type="script", script="x", input={"n": InputField("integer")}),
            Step("a", input={"n": "ten"}),
            "Step 'build': input 'n' must be a whole number, not 'ten'",
        ),
        (
            Action(type="script", script="x", input={"n": InputField("string", required=True)}),
            Step("a"),
            "Step 'build': input 'n' is required",
        ),
    ],
)
def test_what_cannot_be_rendered_fails_the_step_with_its_name_and_field(
    perform, action, step, sentence
):
    ledger, runner, ended = perform(material(action, step))
    assert sentence in failed(ended)
    assert runner.orders == [] and "started" not in ledger.calls


def test_an_image_gets_no_workspace_and_its_lists_are_not_rendered(perform):
    action = Action(
        type="docker",
        image="tool:{{ input.v }}",
        cmd="run {{ input.v }}",
        entrypoint=("/bin/{{ x }}",),
        command=("c",),
    )
    _, runner, _ = perform(material(action, Step("a", input={"v": "2"})))
    assert runner.orders[0].work == ImageWork("tool:2", "run 2", ("/bin/{{ x }}",), ("c",))


def test_what_an_action_asks_of_its_container_is_in_the_order(perform):
    action = Action(
        type="docker",
        image="i",
        shm_size="1g",
        user="7:8",
        platform="linux/arm64",
        pull="always",
        volumes={"sets": "/data:ro"},
    )
    _, runner, _ = perform(material(action))
    assert runner.orders[0].container == ContainerWishes(
        1 << 30, "7:8", "linux/arm64", "always", {"sets": "/data:ro"}
    )


@pytest.mark.parametrize(
    ("place", "visible"),
    [
        ({"type": "script", "script": "x"}, "GPU-b,2"),
        ({"type": "script", "script": "x", "runner": "docker"}, "0,1"),
        ({"type": "docker", "image": "i"}, "0,1"),
        ({"type": "pod", "image": "i"}, "0,1"),
    ],
)
def test_a_steps_own_gpus_are_named_by_their_numbers_where_it_runs(bench, place, visible):
    ledger, runner = FakeLedger(), FakeRunner()
    ledger.material_of = lambda _: material(Action(**place))
    attempt = Attempt(claim(7), 0.0, gpus=("GPU-b", "2"))
    bench(ledger, runner).execution.perform(attempt)
    assert runner.orders[0].env["CUDA_VISIBLE_DEVICES"] == visible
    assert runner.orders[0].resources.gpus == ("GPU-b", "2")


def test_a_pod_manifest_is_rendered_leaf_by_leaf(perform):
    action = Action(
        type="pod",
        image="i",
        manifest={"spec": {"nodeSelector": {"gpu": "{{ input.g }}"}, "n": [1, "{{ input.g }}"]}},
    )
    _, runner, _ = perform(material(action, Step("a", input={"g": "yes"})))
    assert runner.orders[0].manifest == {"spec": {"nodeSelector": {"gpu": "yes"}, "n": [1, "yes"]}}


def test_secrets_are_hidden_in_lines_as_they_are_and_encoded(perform):
    def leak(order, lines, stop):
        for text in (
            "a top-secret-1 b",
            base64.b64encode(b"top-secret-1").decode(),
            "typed-secret",
            "harmless",
        ):
            lines(Line(1.0, "stdout", text))
        return StepOutcome(Verdict.SUCCEEDED, 0)

    action = Action(type="script", script="x", input={"pw": InputField("string", secret=True)})
    _, _runner, ended = perform(
        material(action, Step("a", input={"pw": "typed-secret"}), masks=("top-secret-1",)),
        FakeRunner(leak),
    )
    shown = [line.text for _, lines in ended.batches for line in lines]
    assert shown[0] == "a •••••• b" and shown[2:] == ["••••••", "harmless"]
    assert "dG9wLXNlY3JldC0x"[:8] not in shown[1]
    assert ended.report.masks == ("top-secret-1", "typed-secret")


def test_a_runner_that_breaks_its_promise_fails_the_step_without_its_words(perform):
    def burst(order, lines, stop):
        raise RuntimeError("password=hunter2")

    _, _, ended = perform(material(), FakeRunner(burst))
    assert failed(ended) == "The worker failed in this step (RuntimeError); see the worker's log"


def test_a_runner_that_cannot_says_why(perform):
    def refuse(order, lines, stop):
        raise PlatformError("the engine is gone")

    _, _, ended = perform(material(), FakeRunner(refuse))
    assert failed(ended) == "the engine is gone"


def test_a_claim_that_is_not_ours_any_more_starts_nothing(bench):
    ledger, runner = FakeLedger(), FakeRunner()
    ledger.is_ours = False
    performed = bench(ledger, runner).execution.perform(Attempt(claim(1), 0.0))
    assert performed.ended is None and runner.orders == []


def test_a_claim_taken_while_draining_is_given_back_unstarted(perform):
    ledger, runner, ended = perform(material(), stop="drain")
    assert ended is None and runner.orders == []
    assert [one.step_id for one in ledger.given_back] == [7]


def test_a_claim_cancelled_before_its_start_is_reported_so(perform):
    _, runner, ended = perform(material(), stop="cancel")
    assert ended.report.outcome.verdict is Verdict.CANCELLED and runner.orders == []


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [("cancel", Verdict.CANCELLED), ("drain", Verdict.LOST), ("lost", Verdict.LOST)],
)
def test_a_stopped_step_counts_as_cancelled_only_when_somebody_cancelled_it(bench, reason, verdict):
    attempt = Attempt(claim(1), 0.0)

    def stopped(order, lines, stop):
        attempt.stop.set(reason)
        return StepOutcome(Verdict.CANCELLED, 143)

    parts = bench(FakeLedger(), FakeRunner(stopped))
    assert parts.execution.perform(attempt).ended.report.outcome.verdict is verdict


@pytest.mark.parametrize(
    ("reason", "text", "is_handed_back"),
    [("drain", "", True), ("drain", "Slurm took the node", False), ("lost", "", False),
     ("walltime", "The walltime ended", False)],
)  # fmt: skip
def test_only_the_stop_of_an_operator_hands_a_step_back(bench, reason, text, is_handed_back):
    attempt = Attempt(claim(1), 0.0)

    def stopped(order, lines, stop):
        attempt.stop.set(reason, text)
        return StepOutcome(Verdict.LOST, 143, "The worker ended it")

    performed = bench(FakeLedger(), FakeRunner(stopped)).execution.perform(attempt)
    outcome = performed.ended.report.outcome
    assert (outcome.verdict, outcome.is_handed_back) == (Verdict.LOST, is_handed_back)
    assert outcome.error == (text or "The worker ended it")


def test_a_pod_is_told_where_it_fetches_the_pinned_revision_and_gets_no_tree_of_this_host(bench):
    ledger, runner = FakeLedger(), FakeRunner()
    ledger.material_of = lambda _: material(Action(type="script", runner="pod", script="true"))
    parts = bench(ledger, runner, server_url="http://stroem:8080")
    attempt = Attempt(claim(7), 0.0)
    parts.execution.tidy(attempt, parts.execution.perform(attempt))
    order = runner.orders[0]
    assert (
        order.pinned.url == f"http://stroem:8080/worker/workspace/default.tar.gz?revision={DIGEST}"
    )
    assert order.pinned.token == f"pass-1007-1-{DIGEST}"
    assert order.pinned.token in order.secrets and order.pinned.token not in repr(order)
    assert order.work.workspace_dir is None and parts.workspaces.planted == 0


@pytest.mark.parametrize(
    ("script", "mentions", "sends"),
    [("./make.sh", True, True), ("./make.sh", False, False), ("ls $ARTIFACTS_DIR", False, True)],
)
def test_a_pod_sends_files_where_its_script_or_a_file_of_the_workspace_may_leave_some(
    bench, script, mentions, sends
):
    ledger, runner = FakeLedger(), FakeRunner()
    action = Action(type="script", runner="pod", script=script)
    ledger.material_of = lambda _: material(action, mentions_artifacts=mentions)
    parts = bench(ledger, runner, server_url="http://stroem:8080")
    parts.execution._shelf = Shelf(None)  # a pod brings its files itself: no ledger is asked
    parts.execution.perform(Attempt(claim(7), 0.0))
    shelves = runner.orders[0].shelves
    assert (shelves is not None) == sends
    assert not sends or shelves.parcel.url == "http://stroem:8080/worker/artifacts"


@pytest.mark.parametrize(
    ("action", "wanted", "sends"),
    [
        ({}, None, False),
        ({}, Artifacts(on_failure=True), True),
        ({"cmd": "touch $ARTIFACTS_DIR/x"}, None, True),
        ({"command": ("--out", "$(ARTIFACTS_DIR)")}, None, True),
    ],
)
def test_the_pod_of_an_image_sends_files_where_its_step_says_so(bench, action, wanted, sends):
    ledger, runner = FakeLedger(), FakeRunner()
    step = Step(action="build", artifacts=wanted)
    image = Action(type="pod", image="x", **action)
    ledger.material_of = lambda _: material(image, step, mentions_artifacts=True)
    parts = bench(ledger, runner, server_url="http://stroem:8080")
    parts.execution._shelf = Shelf(None)
    parts.execution.perform(Attempt(claim(7), 0.0))
    shelves = runner.orders[0].shelves
    assert (shelves is not None) == sends
    assert not sends or (shelves.tell_end is not None and shelves.on_failure == bool(wanted))


@pytest.mark.parametrize(
    ("kind", "cmd", "declares", "has_folders"),
    [
        ("pod", "true", False, False),
        ("pod", "true", True, True),
        ("pod", "cat $GLOBAL_STATE_DIR/x", False, True),
        ("docker", "true", False, True),
    ],
)
def test_images_see_the_state(bench, kind, cmd, declares, has_folders):
    ledger, runner = FakeLedger(), FakeRunner()
    image = Action(type=kind, image="x", cmd=cmd)
    seen = (Seen(1, {"n": 1}), Seen())
    ledger.material_of = lambda _: material(image, state=seen, declares_state=declares)
    parts = bench(ledger, runner, server_url="http://stroem:8080")
    parts.execution._shelf = Shelf(Storage())
    parts.execution._states = States(None)  # no file travels: no ledger is asked
    performed = parts.execution.perform(Attempt(claim(7), 0.0))
    order = runner.orders[0]
    assert (order.state is not None) == has_folders
    if has_folders:
        assert (order.state.task[0] / "state.json").read_text() == '{"n": 1}\n'
        assert order.shelves is not None
    assert performed.ended.report.outcome.verdict is Verdict.SUCCEEDED


def test_the_pod_of_an_image_that_cannot_send_fails_with_the_settings_name(perform, bench):
    ledger, runner = FakeLedger(), FakeRunner()
    step = Step(action="build", artifacts=Artifacts())
    ledger.material_of = lambda _: material(Action(type="pod", image="x"), step)
    parts = bench(ledger, runner)
    parts.execution._shelf = Shelf(None)
    performed = parts.execution.perform(Attempt(claim(7), 0.0))
    assert not runner.orders
    assert "cannot send its files" in failed(performed.ended)
    assert "`server_url`" in failed(performed.ended)


def test_a_pod_without_a_server_to_fetch_from_fails_with_the_settings_name(perform):
    _, runner, ended = perform(material(Action(type="script", runner="pod", script="true")))
    assert not runner.orders
    assert "needs `server_url`" in failed(ended)


def test_only_pods_with_scripts_fetch_anything(perform):
    for action in (
        Action(type="pod", image="x"),
        Action(type="docker", image="x"),
        Action(type="script", runner="docker", script="true"),
    ):
        _, runner, _ = perform(material(action))
        assert runner.orders[-1].pinned is None


def test_what_an_action_asks_of_its_engine_reaches_the_runner(perform):
    action = Action(
        type="script",
        runner="docker",
        script="true",
        workdir="sub",
        workspace="copy",
        resources={"cpu": "500m", "memory": "64Mi", "num_cpus": 2, "num_gpus": 1},
    )
    _, runner, _ = perform(material(action), one=claim(7, timeout_s=9.0))
    order = runner.orders[0]
    assert order.resources == Resources(cpu="500m", memory="64Mi", num_cpus=2, num_gpus=1)
    assert (order.workdir, order.chdir, order.work.workspace_mode) == ("sub", None, "copy")
    assert order.limits.timeout_s == 9.0


def test_a_manifest_is_rendered_leaf_by_leaf(perform):
    manifest = {
        "metadata": {"annotations": {"who": "{{ input.who }}"}},
        "spec": {"tolerations": [{"key": "gpu"}]},
    }
    _, runner, _ = perform(
        material(Action(type="pod", image="x", manifest=manifest), Step("a", input={"who": "Ada"}))
    )
    assert runner.orders[0].manifest == {
        "metadata": {"annotations": {"who": "Ada"}},
        "spec": {"tolerations": [{"key": "gpu"}]},
    }


@pytest.mark.parametrize(("fence", "number", "says"), [(1, 1, []), (2, 2, [2]), (3, 1, [1])])
def test_only_the_log_of_a_repeated_attempt_begins_with_its_number(perform, fence, number, says):
    def greet(order, lines, stop):
        lines(Line(0.0, "stdout", "hello"))
        return StepOutcome(Verdict.SUCCEEDED, 0)

    one = replace(claim(7), fence=fence, number=number)
    _, _, ended = perform(material(), FakeRunner(greet), one=one)
    lines = [line.text for _, batch in ended.batches for line in batch]
    assert lines == [*(f"---- Attempt {number} ----" for number in says), "hello"]


@pytest.mark.parametrize(
    ("of_step", "of_action", "of_worker", "runner", "umask"),
    [
        (None, None, None, "local", None),
        (None, None, 0o027, "local", 0o027),
        (None, 0o002, 0o027, "local", 0o002),
        (0o077, 0o002, 0o027, "local", 0o077),
        (0o000, 0o002, None, "local", 0o000),
        (None, None, 0o027, "docker", None),
        (None, 0o002, 0o027, "docker", 0o002),
    ],
)
def test_the_umask_is_the_steps_or_the_actions_or_on_this_host_the_workers(
    bench, of_step, of_action, of_worker, runner, umask
):
    ledger, asked = FakeLedger(), FakeRunner()
    action = Action(type="script", script="true", runner=runner, umask=of_action)
    ledger.material_of = lambda _: material(action, Step("a", umask=of_step))
    execution = bench(ledger, asked).execution
    execution._umask = of_worker
    attempt = Attempt(claim(7), 0.0)
    execution.tidy(attempt, execution.perform(attempt))
    assert asked.orders[0].work.umask == umask


@pytest.mark.parametrize(
    ("name", "language"), [("work.py", "python"), ("work", "shell"), ("a.b.ts", "typescript")]
)
def test_a_rendered_source_tells_its_language(perform, name, language):
    action = Action(type="script", source="{{ input.file }}", language=None)
    _, runner, _ = perform(material(action, Step("a", input={"file": name})))
    assert runner.orders[0].work.language == language
