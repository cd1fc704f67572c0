"""What a workspace may not say without being told that it has no effect, or another one."""

from __future__ import annotations

import pytest

from engine.spec import parser

HEAD = "tasks:\n  t:\n    flow:\n      a: "


def told(text: str, paths: tuple[str, ...] | None = None) -> str:
    loaded = parser.load({"flow.yaml": text}, paths=paths)
    return "\n".join(f"{one.severity}: {one.message}" for one in loaded.problems)


@pytest.mark.parametrize("flow", ["flow:", "flow: ~", "description: x"])
def test_a_task_without_steps_is_refused(flow: str):
    assert told(f"tasks:\n  t:\n    {flow}\n") == "error: Task 't' is missing 'flow'"


@pytest.mark.parametrize(
    ("workdir", "wrong"),
    [
        ("/tmp", "lies outside the workspace"),
        ("a/../..", "lies outside the workspace"),
        ("'{{ input.x }}'", "is not rendered as a template"),
        ("nope", "is no folder of the workspace"),
        ("src/nope", "is no folder of the workspace"),
        ("src", ""),
        ("./src/lib/", ""),
        ("src/..", ""),
        ("current", ""),
        ("current/below", ""),
    ],
)
def test_a_working_directory_that_no_step_can_enter_is_refused(workdir: str, wrong: str):
    files = ("flow.yaml", "src/lib/a.py", "current")  # the last one is a link
    said = told(f"{HEAD}{{type: script, script: pwd, workdir: {workdir}}}\n", files)
    assert (wrong in said) if wrong else not said, said


def test_containers_have_their_own_working_directories():
    text = f"{HEAD}{{type: docker, image: x, cmd: pwd, workdir: /srv}}\n"
    assert not told(text, ("flow.yaml",))
    assert not told(f"{HEAD}{{type: script, runner: docker, script: pwd, workdir: /srv}}\n", ())
    assert "not rendered" in told(text.replace("/srv", "'/{{ input.x }}'"))


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ("type: docker, image: x, command: ['{{ input.x }}']", "command '{{ input.x }}' is not"),
        ("type: pod, image: x, entrypoint: [a, '{{ input.y }}']", "entrypoint '{{ input.y }}'"),
        ("type: docker, image: x, command: [ps, '{{.Names}}']", ""),
        ("type: docker, image: x, command: [ps, '{{ names }}']", ""),
        ("type: script, script: x, artifacts: {paths: ['{{ input.x }}/*']}", "artifacts path"),
        ("type: script, script: x, artifacts: {paths: ['{{ a.output }}']}", "artifacts path"),
    ],
)
def test_a_template_where_none_is_rendered_is_told(step: str, wrong: str):
    said = told(f"{HEAD}{{{step}}}\n")
    assert (wrong in said and "not rendered as a template" in said) if wrong else not said, said


def test_a_template_in_a_command_of_a_workflow_action_is_told():
    action = "{trigger_type: on_workflow_start, action_type: run_commands, commands: ['echo {{ input.x }}']}"
    said = told(f"{HEAD}{{type: script, script: x}}\n    workflow_actions: [{action}]\n")
    assert "command 'echo {{ input.x }}' is not rendered as a template" in said


@pytest.mark.parametrize(
    "text",
    [
        "tasks: {t: {input: {a-b: {type: string}, A_B: {type: string}}, flow: {s: {type: script, script: x}}}}",
        "tasks: {t: {flow: {s: {type: script, script: x, input: {a.b: 1, a_b: 2}}}}}",
        "tasks: {t: {input: {a b: {type: string}}, flow: {s: {type: script, script: x, input: {a_b: 1}}}}}",
        "actions: {c: {type: script, script: x, input: {a-b: {type: string}, a_b: {type: string}}}}",
        "actions: {c: {type: script, script: x, input: {a-b: {type: string}}}}\n"
        "tasks: {t: {flow: {s: {action: c, input: {a-b: x, a_b: y}}}}}",
    ],
)
def test_inputs_that_share_a_variable_are_told_once(text: str):
    assert told(text).count("both become STROEM_INPUT_A_B") == 1


def test_a_variable_that_an_input_would_replace_is_refused():
    task = "tasks: {t: {input: {x: {type: string}}, flow: {s: {type: script, script: x, env: {%s: y}}}}}"
    assert "error: Task 't' step 's' env 'STROEM_INPUT_X' would be" in told(task % "STROEM_INPUT_X")
    assert not told(task % "STROEM_INPUT_Z")
    assert "files there are not stored" in told(task % "ARTIFACTS_DIR")
    assert "files there are not kept" in told(task % "STATE_OUT_DIR")


@pytest.mark.parametrize("key", ["when", "for_each"])
def test_the_item_of_a_loop_is_not_known_before_the_loop(key: str):
    each = {"when": "[1]", "for_each": "'{{ each.item }}'"}[
        "for_each" if key == "for_each" else "when"
    ]
    when = ", when: '{{ each.item > 1 }}'" if key == "when" else ""
    said = told(f"{HEAD}{{type: script, script: x, for_each: {each}{when}}}\n")
    assert f"{key} reads 'each', but is evaluated once" in said


@pytest.mark.parametrize(
    ("when", "is_told"),
    [
        ("{{ input.x }} == 'a'", True),
        ("{{ true }} and {{ false }}", True),
        ("!{{ input.x }}", True),
        ("{% if input.x %}{% endif %} no", True),
        ("  {{ input.x == 'a' }}  ", False),
        ("{% if input.x %}yes{% else %}no{% endif %}", False),
        ("{% set y = input.x %} {{ y }}", False),
        ("{# why #} {{ input.x }}", False),
    ],
)
def test_a_condition_that_text_makes_true_is_told(when: str, is_told: bool):
    text = (
        "tasks: {t: {input: {x: {type: string}},"
        f' flow: {{s: {{type: script, script: x, when: "{when}"}}}}}}}}'
    )
    assert ("is always true, because it has text outside" in told(text)) == is_told


def test_a_filter_of_a_webhook_that_text_makes_true_is_told():
    said = told(
        "tasks: {t: {flow: {s: {type: script, script: x}}}}\n"
        "triggers: {w: {type: webhook, task: t, name: w, secret: long-enough-0123456789,"
        " filter: \"{{ body.ref }} == 'main'\"}}"
    )
    assert "filter '{{ body.ref }} == 'main'' is always true" in said


@pytest.mark.parametrize(("cmd", "is_refused"), [("it's", True), ("'a b' c", False)])
def test_a_command_for_an_entrypoint_must_be_words(cmd: str, is_refused: bool):
    step = f'{{type: docker, image: x, entrypoint: [run], cmd: "{cmd}"}}'
    assert ("cannot be split into arguments" in told(f"{HEAD}{step}\n")) == is_refused
    assert not told(f'{HEAD}{{type: docker, image: x, cmd: "{cmd}"}}\n')


@pytest.mark.parametrize(
    ("cron", "wanted"),
    [
        ("*/90 * * * *", "'*/90' of the minute is the same as '0'"),
        ("5/58 * * * *", "'5/58' of the minute is the same as '5'"),
        ("0 */24 * * *", "'*/24' of the hour is the same as '0'"),
        ("0 0 1-5/9 * *", "'1-5/9' of the day of the month is the same as '1'"),
        ("0 0 * */12 *", "'*/12' of the month is the same as '1'"),
        ("*/61 * * * * *", "'*/61' of the second is the same as '0'"),
        ("*/45 */12 */2 */6 1-5/2", ""),
        ("0 0 L-3,15W * mon#2", ""),
        ("@daily", ""),
    ],
)
def test_a_clock_whose_step_is_never_taken_is_told(cron: str, wanted: str):
    said = told(
        "tasks: {t: {flow: {s: {type: script, script: x}}}}\n"
        f'triggers: {{c: {{type: scheduler, task: t, cron: "{cron}"}}}}'
    )
    assert (wanted in said) if wanted else not said, said


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ("secret: ''", "has no 'secret', by which senders prove themselves"),
        ("secret: '{{ secret.nope }}'", "references secret 'nope' which is not defined"),
        ("secret: long-enough-123, timeout_secs: 5", "'timeout_secs' has no effect"),
        ("secret: long-enough-123, timeout_secs: 5, mode: sync", ""),
    ],
)
def test_a_webhook_says_what_has_no_effect(keys: str, wanted: str):
    said = told(
        "tasks: {t: {flow: {s: {type: script, script: x}}}}\n"
        f"triggers: {{w: {{type: webhook, task: t, name: w, {keys}}}}}"
    )
    assert (wanted in said) if wanted else not said, said


@pytest.mark.parametrize(
    ("action", "is_told"),
    [
        ("trigger_type: on_workflow_complete", True),
        ("trigger_type: on_jobs_complete, jobs: [z]", True),
        ("trigger_type: on_jobs_complete, jobs: [a]", False),
        ("trigger_type: on_workflow_start, barrier: true", False),
        ("trigger_type: on_jobs_ready, jobs: [z]", False),
    ],
)
def test_an_action_that_cannot_fail_the_job_is_told(action: str, is_told: bool):
    do = "action_type: run_commands, commands: [x], on_failure: fail_job"
    said = told(
        f"{HEAD}{{type: script, script: x}}\n"
        "      z: {type: script, script: x, depends_on: [a]}\n"
        f"    workflow_actions: [{{{action}, {do}}}]\n"
    )
    assert ("'on_failure: fail_job' may have no effect" in said) == is_told, said


@pytest.mark.parametrize(
    ("name", "is_refused"),
    [("", True), (" a", True), ("x" * 201, True), ("a\tb", True), ("a b", False), ("é.x", False)],
)
def test_names_of_inputs_can_be_typed(name: str, is_refused: bool):
    quoted = '"' + name.replace("\t", "\\t") + '"'
    said = told(
        f"tasks: {{t: {{input: {{{quoted}: {{type: string}}}},"
        " flow: {s: {type: script, script: x}}}}"
    )
    assert ("needs a name" in said) == is_refused, said


def test_a_secret_reads_nothing():
    task = "tasks: {t: {flow: {s: {type: script, script: x}}}}\n"
    assert "but secrets are read before" in told(task + 'secrets: {a: x, b: "{{ secret.a }}"}')
    assert "but secrets are read before" in told(task + 'secrets: {b: {c: ["{{ input.a }}"]}}')
    assert not told(task + "secrets: {b: \"{{ 'ref+env://X' | vals }}\"}")


@pytest.mark.parametrize(
    ("keys", "is_told"),
    [
        ("env: {N: '{{ input.n }}'}", True),
        ("env: {N: 'n {{ input.n | upper }}'}", True),
        ("when: '{{ input.n }}'", True),
        ("input: {v: ['{{ input.n }}']}", True),
        ("env: {N: \"{{ input.n == 'a' }}\"}", True),
        ("env: {N: \"{{ input.n | default(value='') | upper }}\"}", False),
        ("env: {N: '{% if input.n %}{{ input.n }}{% endif %}'}", False),
        ("when: '{{ input.n is defined }}'", False),
        ("when: '{{ input.n and true }}'", False),
        ("when: '{{ not input.n }}'", False),
        ("env: {N: '{{ input.n }}'}, input: {n: x}", False),
    ],
)
def test_an_optional_input_that_a_template_needs_is_told(keys: str, is_told: bool):
    step = f"{{type: script, script: x, {keys}}}"
    text = f"tasks: {{t: {{input: {{n: {{type: string}}}}, flow: {{s: {step}}}}}}}"
    assert ("reads input 'n', which may be left out" in told(text)) == is_told, told(text)
    for more in (", required: true", ", default: x"):
        assert "left out" not in told(text.replace("type: string", f"type: string{more}"))


@pytest.mark.parametrize(
    ("image", "wrong"),
    [
        ("Bad Image", "there is none"),
        ("tool:", "there is none"),
        ("tool:1:2", "there is none"),
        ("tool@sha256:12", "there is none"),
        ("ghcr.io/Owner/tool:1", "write it in lower case"),
        ("$REGISTRY/tool", "there is none"),
        ("tool", ""),
        ("Registry.Example.com:5000/a/b-c__d.e:V1.0", ""),
        ("localhost/tool", ""),
        ("[::1]:5000/tool", ""),
        (f"tool:1@sha256:{'a' * 64}", ""),
        ("{{ input.image }}", ""),
    ],
)
def test_an_image_that_no_registry_has_is_refused(image: str, wrong: str):
    for kind in ("docker", "pod"):
        said = told(f"{HEAD}{{type: {kind}, image: '{image}', cmd: pwd}}\n")
        assert (f"is not the name of an image: {wrong}" in said) if wrong else "name of" not in said


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("workdir: a/b", "workdir 'a/b' must begin with '/'"),
        ("resources: {cpu: 0}", "'cpu' must be a number of CPUs such as 2, 0.5 or 500m, not '0'"),
        ("resources: {cpu: 0.0m}", "not '0.0m'"),
        ("resources: {memory: 0Mi}", "'memory' must be an amount such as 512Mi, 4G or 8g"),
        ("shm_size: 0", "'shm_size' must be an amount such as 512Mi or 2g, not '0'"),
        ("volumes: {a: /d, b: '/d:ro'}", "volumes 'b' cannot be '/d:ro': that path is taken"),
        ("resources: {cpu: 0.5, memory: 10Mi}, shm_size: 0.5Gi, volumes: {a: /d, b: /e}", ""),
    ],
)
def test_what_an_engine_would_refuse_or_read_as_no_limit_is_refused(key: str, wrong: str):
    said = told(f"{HEAD}{{type: docker, image: x, cmd: pwd, {key}}}\n")
    assert (wrong in said and said.startswith("error")) if wrong else not said, said


LATE = "reminders: [3h], escalation: {after: 2h, groups: [g]}"


@pytest.mark.parametrize("timeout", ["1h", "2h", "4h"])
def test_what_comes_after_the_time_out_of_an_approval_is_told_wherever_that_is_said(timeout: str):
    texts = (
        f"{HEAD}{{type: approval, message: x, {LATE}, timeout: {timeout}}}\n",
        f"actions: {{ask: {{type: approval, message: x, {LATE}, timeout: {timeout}}}}}\n"
        f"{HEAD}{{action: ask}}\n",
        f"actions: {{ask: {{type: approval, message: x, {LATE}}}}}\n"
        f"{HEAD}{{action: ask, timeout: {timeout}}}\n",
    )
    for text in texts:
        said = told(text)
        assert said.count("has no effect: the approval times out") == (2 if timeout != "4h" else 0)


def test_a_priority_of_what_no_worker_takes_and_a_limit_beside_serialize_are_told():
    said = told(f"{HEAD}{{type: approval, message: x, priority: 5}}\n")
    assert said == (
        "warning: Task 't' step 'a' 'priority' has no effect: its action is type 'approval' (steps"
        " of this type never reach a worker)"
    )
    assert not told(f"{HEAD}{{type: script, script: x, priority: 5}}\n")
    for limit, is_told in ((3, True), (1, False)):
        said = told(
            f"{HEAD}{{type: script, script: x}}\n    max_concurrent_jobs: {limit}\n"
            "    state: {on_conflict: serialize}\n"
        )
        assert ("max_concurrent_jobs has no effect" in said) == is_told, said


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ("filter: \"body.ref == 'x'\"", "Trigger 'w' filter 'body.ref == 'x'' is always true"),
        ("filter: 'true'", ""),
        ("filter: \"{{ body.ref == 'x' }}\"", ""),
        ("idempotency_key: body.id", "Trigger 'w' idempotency_key 'body.id' is always the same"),
        ("idempotency_key: '{{ body.id }}'", ""),
    ],
)
def test_text_where_a_trigger_wants_a_template_is_told(keys: str, wanted: str):
    said = told(
        "tasks: {t: {flow: {s: {type: script, script: x}}}}\n"
        f"triggers: {{w: {{type: webhook, task: t, name: w, verify: none, {keys}}}}}"
    )
    assert (wanted in said) if wanted else not said, said


RUN = "action_type: run_commands, commands: [x]"


@pytest.mark.parametrize(
    ("barrier", "needed", "is_stuck"),
    [
        # a -> b -> c, and d
        ("on_workflow_start", "on_workflow_complete", True),
        ("on_workflow_start", "on_worker_complete", True),
        ("on_workflow_start", "on_worker_start", True),
        ("on_workflow_start", "on_jobs_complete, jobs: [d]", True),
        ("on_jobs_ready, jobs: [b]", "on_jobs_complete, jobs: [d, c]", True),
        ("on_jobs_ready, jobs: [b]", "on_jobs_ready, jobs: [c]", True),
        ("on_jobs_ready, jobs: [b]", "on_workflow_complete", True),
        ("on_jobs_complete, jobs: [a]", "on_jobs_complete, job_name_regexes: [b]", True),
        ("on_jobs_ready, jobs: [b]", "on_jobs_complete, jobs: [a, d]", False),
        ("on_jobs_ready, jobs: [b]", "on_worker_start", False),
        ("on_jobs_ready, jobs: [b]", "on_jobs_ready, jobs: [b]", False),
        ("on_jobs_complete, jobs: [a]", "on_jobs_complete, jobs: [a]", False),
        ("on_jobs_complete, jobs: [c]", "on_jobs_complete, jobs: [d]", False),
    ],
)
def test_a_barrier_that_holds_back_what_it_waits_for_is_refused(
    barrier: str, needed: str, is_stuck: bool
):
    actions = (
        f"[{{name: x, barrier: true, needs: [y], trigger_type: {barrier}, {RUN}}},"
        f" {{name: y, needs: [z], trigger_type: on_workflow_start, {RUN}}},"
        f" {{name: z, trigger_type: {needed}, {RUN}}}]"
    )
    ours = (
        f"{HEAD}{{type: script, script: x}}\n"
        "      b: {type: script, script: x, depends_on: [a]}\n"
        "      c: {type: script, script: x, depends_on: [b]}\n"
        "      d: {type: script, script: x}\n"
        f"    workflow_actions: {actions}\n"
    )
    torc = (
        "name: t\njobs: [{name: a, command: x}, {name: b, command: x, depends_on: [a]},"
        " {name: c, command: x, depends_on: [b]}, {name: d, command: x}]\n"
        f"actions: {actions}\n"
    )
    for text in (ours, torc):
        said = told(text)
        stuck = "is a barrier that never lifts: it needs 'z', which waits for steps that"
        assert (stuck in said) == is_stuck, said
        assert "error" not in said or is_stuck, said


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ("type: scheduler, cron: '*/5 * * * *', debounce: 5m", "'w' never starts a job: it fires"),
        ("type: scheduler, cron: '0 8-17 * * *', debounce: 2h", ""),  # at the end of the day
        ("type: scheduler, cron: '*/5 * * * *', debounce: 4m", ""),
        ("type: scheduler, cron: '0 0 30 2 *', debounce: 4m", "'w' never fires: no month"),
        (
            "type: event_source, target_task: u, restart_policy: never, backoff_secs: 5",
            "'backoff_secs' has no effect with 'restart_policy: never'",
        ),
        ("type: event_source, target_task: u, restart_policy: on_failure, backoff_secs: 5", ""),
    ],
)
def test_a_trigger_that_never_starts_or_never_waits_is_told(keys: str, wanted: str):
    step = "{flow: {s: {type: script, script: x}}}"
    said = told(f"tasks: {{t: {step}, u: {step}}}\ntriggers: {{w: {{task: t, {keys}}}}}")
    assert (wanted in said) if wanted else not said, said
