"""Steps in pods that really run, against an API server that misbehaves on request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine.orders import ImageWork, Resources, ScriptWork, StepOutcome, Verdict
from runners.pod.runner import PodRunner
from tests.runners.contract import Log, Run, Stop, build_order
from tests.runners.pod.fake_api import FakeCluster, Fault

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

Begin = Callable[..., Run]
Finish = Callable[..., tuple[StepOutcome, Log]]


@pytest.fixture
def begin(runner: PodRunner, tmp_path: Path) -> Iterator[Begin]:
    """Start an attempt: `begin(code, runner=..., **fields) -> Run`."""
    runs: list[Run] = []
    with ThreadPoolExecutor(8) as pool:

        def start(code: str | None = None, runner: PodRunner = runner, **fields: Any) -> Run:
            order, log, stop = build_order(tmp_path, code, **fields), Log(), Stop()
            run = Run(order, log, stop, pool.submit(runner.run, order, log, stop))
            runs.append(run)
            return run

        yield start
        for run in runs:
            if not run.future.done():
                run.stop.set()


@pytest.fixture
def finish(begin: Begin) -> Finish:
    def run(code: str | None = None, **fields: Any) -> tuple[StepOutcome, Log]:
        begun = begin(code, **fields)
        return begun.outcome(), begun.log

    return run


# what the documentation shows


def test_an_image_runs_with_its_cmd_through_a_shell(finish: Finish, base_image: str):
    outcome, log = finish(
        work=ImageWork(base_image, cmd='echo "$((6*7)) $(echo x) $STROEM_STEP_NAME"')
    )
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == ["42 x build"]


def test_an_entrypoint_gets_cmd_as_its_arguments(finish: Finish, base_image: str):
    work = ImageWork(base_image, entrypoint=("printf", "[%s]\\n"), cmd="--verbose --env 'a b'")
    assert finish(work=work)[1].texts() == ["[--verbose]", "[--env]", "[a b]"]


def test_a_python_script_runs_from_the_pinned_workspace(finish: Finish, pin: Any):
    pinned = pin({"test_gpu.py": "print('OUTPUT: {\"gpu\": false}')\n"})
    outcome, _ = finish("python3 /workspace/test_gpu.py", workspace_dir=None, pinned=pinned)
    assert outcome.output == {"gpu": False}


def test_a_step_ends_with_its_container_whatever_a_sidecar_does(
    finish: Finish, base_image: str, cluster: FakeCluster
):
    sidecar = {
        "name": "postgres-sidecar",
        "image": base_image,
        "command": ["sh", "-c", "echo ready as $POSTGRES_PASSWORD; echo 'OUTPUT: 1'; sleep 300"],
        "env": [{"name": "POSTGRES_PASSWORD", "value": "test"}],
    }
    outcome, log = finish("sleep 1; echo tested", manifest={"spec": {"containers": [sidecar]}})
    assert outcome.verdict is Verdict.SUCCEEDED
    assert not outcome.has_output
    assert set(log.texts()) == {
        "tested",
        "[postgres-sidecar] ready as test",
        "[postgres-sidecar] OUTPUT: 1",
    }
    assert cluster.pods == {}


def test_a_sidecar_is_reached_on_the_pods_own_address(finish: Finish, base_image: str):
    server = (
        "mkdir /www && echo hello >/www/index.html && cd /www && exec python3 -m http.server 8000"
    )
    sidecar = {"name": "web", "image": base_image, "command": ["sh", "-c", server]}
    code = "curl -s --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8000/"
    outcome, log = finish(code, manifest={"spec": {"containers": [sidecar]}})
    assert outcome.verdict is Verdict.SUCCEEDED
    assert "hello" in log.texts()


# the workspace


def test_a_workspace_is_read_only_and_the_log_names_the_remedy(finish: Finish, pin: Any):
    outcome, log = finish("set -e; touch x", workspace_dir=None, pinned=pin({"a": "1"}))
    assert outcome.verdict is Verdict.FAILED
    assert "workspace: copy" in log.lines[-1].text


def test_a_copy_of_the_workspace_is_writable(finish: Finish, pin: Any):
    outcome, log = finish(
        "echo 2 >a; cat a", workspace_dir=None, workspace_mode="copy", pinned=pin({"a": "1"})
    )
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == ["2"]


def test_a_download_that_is_refused_is_named_with_what_the_tool_said(finish: Finish, pin: Any):
    outcome, _ = finish("true", workspace_dir=None, pinned=pin({"a": "1"}, shown="wrong"))
    assert outcome.verdict is Verdict.FAILED
    assert "the workspace could not be downloaded" in outcome.error
    assert "401" in outcome.error


def test_the_download_names_the_pinned_revision(finish: Finish, pin: Any):
    pinned = pin({"a": "1"})
    finish("true", workspace_dir=None, pinned=pinned)
    assert pinned.url.endswith("/pinned/revision-1.tar.gz")


# ends


@pytest.mark.parametrize(
    ("resources", "is_told"), [(Resources(memory="64Mi"), True), (Resources(), False)]
)
def test_a_killed_step_is_told_about_its_limit_also_where_the_engine_missed_why(
    finish: Finish, resources, is_told
):
    outcome, _ = finish("sh -c 'kill -9 $$'; exit $?", resources=resources)
    assert outcome.exit_code == 137
    assert ("most likely because it ran out of memory (limit: 64Mi)" in outcome.error) is is_told


def test_out_of_memory_is_told_apart(finish: Finish):
    code = "head -c 200m /dev/zero | tail"
    outcome, _ = finish(code, resources=Resources(memory="32Mi"))
    assert outcome.verdict is Verdict.FAILED
    assert "ran out of memory" in outcome.error


def test_an_unschedulable_pod_is_ended_with_the_reason(
    finish: Finish, make_runner: Any, cluster: FakeCluster
):
    cluster.is_unschedulable = True
    outcome, log = finish("true", runner=make_runner(pending_timeout_s=1.0))
    assert outcome.verdict is Verdict.FAILED
    assert "stuck in Pending state for 1s" in outcome.error
    assert "Insufficient memory" in outcome.error
    assert log.texts() == []


def test_an_image_that_cannot_be_pulled_is_the_error(finish: Finish, make_runner: Any):
    outcome, _ = finish(work=ImageWork("nobody/nothing:1"), runner=make_runner(image_timeout_s=0.5))
    assert outcome.verdict is Verdict.FAILED
    assert "ErrImagePull" in outcome.error
    assert "manifest unknown" in outcome.error


def test_an_image_name_that_is_none_fails_at_once(finish: Finish):
    began = time.monotonic()
    outcome, _ = finish(work=ImageWork("Not A Name!"))
    assert "InvalidImageName" in outcome.error
    assert time.monotonic() - began < 10


def test_a_command_that_is_not_in_the_image_is_named(finish: Finish, base_image: str):
    outcome, _ = finish(work=ImageWork(base_image, entrypoint=("/nothing/here",)))
    assert outcome.verdict is Verdict.FAILED
    assert "/nothing/here" in outcome.error


@pytest.mark.parametrize(
    ("happen", "reason"),
    [
        (lambda cluster, name: cluster.evict(name), "Evicted"),
        (lambda cluster, name: cluster.lose_node(name), "DeletionByTaintManager"),
        (lambda cluster, name: cluster.delete_by_hand(name), "deleted"),
        (lambda cluster, name: cluster.delete_by_hand(name, 2), "deleted"),
    ],
    ids=["eviction", "node loss", "deleted at once", "deleted with grace"],
)
@pytest.mark.parametrize("may_watch", [True, False], ids=["watch", "poll"])
def test_what_the_cluster_takes_away_is_lost_and_says_why(
    begin: Begin, cluster: FakeCluster, happen: Any, reason: str, may_watch: bool
):
    if not may_watch:
        cluster.forbidden = {("watch", "pods"), ("list", "pods")}
    run = begin("echo ready; sleep 300")
    run.log.wait_for("ready")
    happen(cluster, cluster.wait_running())
    outcome = run.outcome(20)
    assert outcome.verdict is Verdict.LOST
    assert reason in outcome.error


# a server that misbehaves


def test_an_answer_that_was_lost_does_not_make_a_second_pod(finish: Finish, cluster: FakeCluster):
    cluster.faults = [
        Fault("create", "/pods", 500, after=True),
        Fault("create", "/secrets", 500, after=True),
    ]
    outcome, log = finish("echo once")
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == ["once"]
    assert [thing["kind"] for thing in cluster.seen].count("Pod") == 1


def test_a_pod_of_that_name_that_is_not_ours_to_use_is_a_loss(
    begin: Begin, cluster: FakeCluster, finish: Finish
):
    run = begin("echo ready; sleep 300")
    run.log.wait_for("ready")
    twin = begin("true", attempt=run.order.attempt)
    outcome = twin.outcome()
    assert outcome.verdict is Verdict.LOST
    assert "already existed" in outcome.error
    assert run.outcome().verdict is Verdict.LOST


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("verb", ["create", "get", "watch", "delete"])
def test_a_server_that_asks_for_patience_gets_it(
    finish: Finish, cluster: FakeCluster, verb: str, status: int
):
    retry_after = 1 if status == 429 else None
    cluster.faults = [Fault(verb, "/pods", status, times=2, retry_after=retry_after)]
    outcome, log = finish("echo done")
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == ["done"]
    assert all(fault.times == 0 for fault in cluster.faults if verb != "get")


def test_a_server_that_stays_away_is_a_loss(finish: Finish, make_runner: Any, cluster: FakeCluster):
    cluster.faults = [Fault("create", "/pods", 503, times=1000)]
    outcome, _ = finish("true", runner=make_runner(outage_s=1.0))
    assert outcome.verdict is Verdict.LOST
    assert "503" in outcome.error


def test_a_watch_that_is_closed_after_every_event_is_taken_up_again(
    finish: Finish, cluster: FakeCluster
):
    cluster.watch_events_each = 1
    outcome, log = finish("echo a; sleep 0.5; echo b")
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == ["a", "b"]


@pytest.mark.parametrize("in_stream", [True, False], ids=["event", "answer"])
def test_a_version_that_the_server_has_forgotten_is_not_asked_for_again(
    begin: Begin, cluster: FakeCluster, in_stream: bool
):
    cluster.tells_410_in_stream, cluster.forgets_before_watch = in_stream, True
    run = begin("echo ready; sleep 1.5; echo done")
    assert run.outcome().verdict is Verdict.SUCCEEDED
    assert run.log.texts() == ["ready", "done"]
    asked = [
        options.get("resourceVersion") for _, _, options in cluster.requests if "watch" in options
    ]
    assert asked[1:] == [None]


def test_watching_resumes_from_the_last_version_that_was_seen(begin: Begin, cluster: FakeCluster):
    cluster.watch_events_each = 1
    run = begin("echo ready; sleep 1; echo done")
    run.outcome()
    versions = [
        int(options["resourceVersion"]) for _, _, options in cluster.requests if "watch" in options
    ]
    assert len(versions) > 1
    assert versions == sorted(versions)
    assert versions[0] > 0


@pytest.mark.parametrize("each", [[1, 2, 3, 5, 7, 11, 13], [40] * 3])
def test_a_log_that_breaks_loses_no_line_and_doubles_none(
    finish: Finish, cluster: FakeCluster, each: list[int]
):
    cluster.log_lines_each = list(each)
    code = (
        "i=0; while [ $i -lt 120 ]; do echo line $i; echo same; i=$((i+1)); [ $((i%40)) = 0 ] &&"
        " sleep 0.5; done; true"
    )
    outcome, log = finish(code)
    assert outcome.verdict is Verdict.SUCCEEDED
    expected = [text for number in range(120) for text in (f"line {number}", "same")]
    assert log.texts() == expected


def test_a_slow_log_is_read_to_its_end(finish: Finish, cluster: FakeCluster):
    cluster.log_pause_s = 0.01  # the container has ended long before
    outcome, log = finish("seq 1 120; echo 'OUTPUT: 7'")
    assert outcome.output == 7
    assert log.texts()[:120] == [str(number) for number in range(1, 121)]


def test_a_log_that_is_refused_for_a_while_is_still_read(finish: Finish, cluster: FakeCluster):
    cluster.faults = [Fault("get", "/log", 500, times=3), Fault("get", "/log", 400, times=1)]
    assert finish("echo here")[1].texts() == ["here"]


# an account with few rights


def test_with_create_get_and_delete_alone_it_polls_and_says_what_is_missing(
    finish: Finish, cluster: FakeCluster
):
    cluster.forbidden = {("watch", "pods"), ("list", "pods"), ("get", "pods/log")}
    cluster.forbidden |= {(verb, "secrets") for verb in ("create", "delete", "list")}
    outcome, log = finish("exit 4")
    assert (outcome.verdict, outcome.exit_code) == (Verdict.FAILED, 4)
    told = "\n".join(line.text for line in log.lines)
    for missing in ("list and watch on pods", "get on pods/log", "create and delete on secrets"):
        assert missing in told


def test_without_secrets_the_environment_still_arrives_byte_for_byte(
    finish: Finish, cluster: FakeCluster
):
    cluster.forbidden = {("create", "secrets")}
    value = "$(STROEM_JOB_ID) $$ 'x' \"y\" ☃"
    outcome, log = finish("printf '[%s]\\n' \"$VALUE\"", env={"VALUE": value})
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == [f"[{value}]"]


def test_an_account_that_may_not_create_pods_is_named(finish: Finish, cluster: FakeCluster):
    cluster.forbidden = {("create", "pods")}
    outcome, _ = finish("true")
    assert outcome.verdict is Verdict.FAILED
    assert "cannot create" in outcome.error


def test_a_refused_manifest_creates_nothing(finish: Finish, cluster: FakeCluster):
    outcome, _ = finish("true", manifest={"spec": {"hostNetwork": True}})
    assert outcome.verdict is Verdict.FAILED
    assert outcome.error == "Pod manifest override rejected: spec.hostNetwork is not allowed"
    assert cluster.seen == []


def test_a_manifest_that_is_no_pod_is_the_authors_error(finish: Finish, cluster: FakeCluster):
    outcome, _ = finish("true", manifest={"spec": {"terminationGracePeriodSeconds": "soon"}})
    assert outcome.verdict is Verdict.FAILED
    assert "terminationGracePeriodSeconds" in outcome.error


# leftovers


def test_a_sweep_removes_what_a_killed_worker_left_and_spares_others(
    begin: Begin, make_runner: Any, cluster: FakeCluster, config: Any
):
    stray, other = (
        begin("echo ready; sleep 300"),
        begin("echo ready; sleep 300", runner=make_runner(owner="another")),
    )
    for run in (stray, other):
        run.log.wait_for("ready")
    make_runner().sweep(frozenset({other.order.attempt}))
    assert stray.outcome(20).verdict is Verdict.LOST
    make_runner().sweep(frozenset())
    assert not other.future.done()
    other.stop.set()
    assert other.outcome().verdict is Verdict.CANCELLED


def test_a_cancel_reaches_a_pod_that_has_not_started(begin: Begin, cluster: FakeCluster):
    cluster.is_unschedulable = True
    run = begin("true")
    cluster.wait_for(lambda: cluster.pods)
    run.stop.set()
    assert run.outcome(10).verdict is Verdict.CANCELLED
    assert cluster.pods == {}


def test_an_environment_with_secrets_is_in_no_pod_that_the_server_saw(
    finish: Finish, cluster: FakeCluster
):
    finish("true # sesame-canary", env={"API_KEY": "sesame-canary"})
    pods = [thing for thing in cluster.seen if thing["kind"] == "Pod"]
    assert pods
    assert "sesame-canary" not in json.dumps(pods)


def test_a_script_work_without_any_workspace_has_an_empty_one(finish: Finish):
    outcome, log = finish(work=ScriptWork(code="pwd; ls -A | wc -l"))
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == ["/workspace", "0"]
