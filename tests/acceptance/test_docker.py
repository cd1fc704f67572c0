"""Steps in containers, through `manage.py worker`: the documentation's examples with images of this
machine, and everything that ends a step before its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from apps.jobs import services
from apps.jobs.models import Job
from apps.workspaces.services import import_folder
from tests.acceptance.engines import (
    Witness,
    end_of,
    flow,
    kill_with_guard,
    left,
    steps,
    texts,
    unique,
    wait_for_text,
    workspace,
)
from tests.apps.jobs.builders import start, until
from tests.house import House
from tests.runners.docker.engine import ROOT
from tests.runners.docker.shelf import make_once

pytestmark = [pytest.mark.docker, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

TOOL = '#!/bin/sh\necho "deploy $* to $DEPLOY_TARGET"\n'
MIGRATIONS = '#!/bin/sh\necho "migrated ${DB_URL%%:*}"\necho "OUTPUT: {\\"tables\\": 3}"\n'


@pytest.fixture
def images(docker_engine: docker.DockerClient, base_image: str) -> dict[str, str]:
    """In place of the documentation's private images: a program each, one as the entrypoint."""
    tool = make_once(
        docker_engine,
        "tool",
        f"FROM {base_image}\nCOPY deploy /usr/local/bin/deploy\nCOPY run /app/run\n",
        lambda: {"deploy": (TOOL.encode(), 0o755), "run": (TOOL.encode(), 0o755)},
    )
    migrations = make_once(
        docker_engine,
        "migrations",
        f'FROM {base_image}\nCOPY go /go\nENTRYPOINT ["/go"]\n',
        lambda: {"go": (MIGRATIONS.encode(), 0o755)},
    )
    return {"tool": tool, "migrations": migrations}


OWNERS: list[str] = []  # names of the workers that tests of this process have begun


@pytest.fixture(autouse=True)
def no_caches(docker_engine: docker.DockerClient) -> Iterator[None]:
    """A worker keeps the caches of its workspaces; those of a test nobody will ask for again."""
    yield
    while OWNERS:
        for volume in docker_engine.volumes.list(filters={"name": f"stroem-cache-{OWNERS.pop()}-"}):
            volume.remove(force=True)


def begin(house: House, **settings: Any) -> Any:
    OWNERS.append(unique("docker"))
    return house.worker(OWNERS[-1], "docker", **{"docker": {}, **settings})


EXAMPLES = """
migrate-db:
  type: docker
  image: {migrations}
  env:
    DB_URL: "{{{{ secret.db_url }}}}"
deploy:
  type: docker
  image: {tool}
  cmd: "deploy --env production"
  env: {{DEPLOY_TARGET: "everywhere"}}
custom-entrypoint:
  type: docker
  image: {tool}
  entrypoint: ["/app/run"]
  cmd: "--verbose --env staging"
lint-python:
  type: script
  runner: docker
  script: "pip install -q six && python3 -m six && test -r /workspace/data.csv"
uv-example:
  type: script
  runner: docker
  script: |
    uv pip install six --system
    uv run python /workspace/scripts/analyze.py
analyze:
  type: script
  runner: docker
  language: python
  dependencies: [six]
  script: |
    import csv, json, six
    rows = list(csv.reader(open("/workspace/data.csv")))
    print("OUTPUT: " + json.dumps({{"rows": len(rows)}}))
fetch:
  type: script
  runner: docker
  language: javascript
  script: |
    const data = await Promise.resolve({{status: "fine"}});
    console.log(`OUTPUT: ${{JSON.stringify(data)}}`);
typed:
  type: script
  runner: docker
  language: typescript
  dependencies: [is-odd]
  script: |
    import isOdd from "is-odd";
    const result: boolean = isOdd(3);
    console.log(`OUTPUT: ${{result}}`);
from-file:
  type: script
  runner: docker
  source: scripts/hello.sh
  args: ["a b", "$HOME"]
"""


def test_the_documented_examples_run_through_a_worker(
    calm_house: House,
    tmp_path: Path,
    images: dict[str, str],
    runner_image: str,
    docker_engine: docker.DockerClient,
) -> None:
    files = {
        "workflow.yaml": flow(
            EXAMPLES.format(**images), secrets='{db_url: "postgres://u:pw-canary@db/x"}'
        ),
        "data.csv": "a,b\n1,2\n",
        "scripts/analyze.py": "import six\nprint('OUTPUT: \"analysed\"')\n",
        "scripts/hello.sh": 'echo "[$1] [$2]"; cat data.csv | wc -l\n',
    }
    found = workspace(tmp_path, files)
    begin(calm_house, runner_image=runner_image)
    job = end_of(start(found), within_s=150)
    done = steps(job)
    bad = {name: step.error for name, step in done.items() if step.status != "completed"}
    assert bad == {}
    assert texts(job, "migrate-db") == ["migrated postgres", 'OUTPUT: {"tables": 3}']
    assert done["migrate-db"].output == {"tables": 3}
    assert texts(job, "deploy") == ["deploy --env production to everywhere"]
    assert texts(job, "custom-entrypoint") == ["deploy --verbose --env staging to "]
    assert done["uv-example"].output == "analysed"
    assert done["analyze"].output == {"rows": 2}
    assert done["fetch"].output == {"status": "fine"}
    assert done["typed"].output is True
    assert texts(job, "from-file") == ["[a b] [$HOME]", "2"]
    assert left(docker_engine, job) == []


@pytest.fixture
def full_image(docker_engine: docker.DockerClient, runner_image: str, node_image: str) -> str:
    """The runner image, with node and npm beside bun."""
    recipe = (
        f"FROM {node_image} AS node\nFROM {runner_image}\nCOPY --from=node /usr/local/bin/node"
        " /usr/local/bin/\n"
    )
    recipe += "COPY --from=node /usr/local/lib/npm /usr/local/lib/npm\n"
    recipe += "RUN ln -s ../lib/npm/bin/npm-cli.js /usr/local/bin/npm\n"
    return make_once(docker_engine, "full", recipe)


def test_the_shipped_example_runs_and_without_its_copies_says_what_to_add(
    calm_house: House, tmp_path: Path, full_image: str, docker_engine: docker.DockerClient
) -> None:
    folder = ROOT / "examples" / "containers"
    files = {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }
    begin(calm_house, runner_image=full_image)
    unedited = {name: text.replace("    workspace: copy\n", "") for name, text in files.items()}
    job, without = (start(workspace(tmp_path, given), "check") for given in (files, unedited))
    done = steps(end_of(job, within_s=150))
    assert {name: step.error for name, step in done.items() if step.status != "completed"} == {}
    assert (done["generate-report"].output, done["analyze"].output) == ({"odd": 1}, {"rows": 3})
    failed = steps(end_of(without, within_s=150))
    assert failed["analyze"].status == "completed"
    for name, word in (
        ("run-tests", "/workspace/web/node_modules"),
        ("generate-report", "Read-only file system"),
    ):
        assert failed[name].status == "failed"
        assert word in "\n".join(texts(without, name, "stderr")), texts(without, name)
        remedies = [text for text in texts(without, name) if "workspace: copy" in text]
        assert remedies == texts(without, name)[-1:]
    assert left(docker_engine, job) + left(docker_engine, without) == []


LIMITS = """
read-only:
  type: script
  runner: docker
  script: "touch /workspace/x"
memory:
  type: script
  runner: docker
  resources: {memory: 32Mi}
  script: "head -c 300m /dev/zero | tail"
late:
  type: script
  runner: docker
  timeout: 8s
  script: "echo began; sleep 300"
inside:
  type: script
  runner: docker
  workdir: sub
  resources: {cpu: 500m}
  env: {MODE: "{{ input.mode | upper }}"}
  input: {mode: {type: string, default: "fast"}}
  script: |
    pwd
    cat "$STROEM_INPUT_FILE"
    echo "$MODE $STROEM_INPUT_MODE"
    echo "to stderr" >&2
    touch "${TMPDIR:-/tmp}/scratch" && env | grep -cE "^(STROEM__|STROEM_KEYS)" ; true
image:
  type: docker
  image: BASE
  cmd: 'cat "$STROEM_INPUT_FILE"; ls /workspace 2>&1 | head -1'
  input: {mode: {type: string, default: "slow"}}
"""


def test_limits_hold_and_say_so(
    calm_house: House, tmp_path: Path, base_image: str, docker_engine: docker.DockerClient
) -> None:
    text = flow(LIMITS.replace("BASE", base_image))
    found = workspace(tmp_path, {"workflow.yaml": text, "sub/here": ""})
    begin(calm_house, runner_image=base_image)
    job = end_of(start(found))
    done = steps(job)
    assert "Read-only file system" in done["read-only"].error
    assert "workspace: copy" in texts(job, "read-only")[-1]
    assert "ran out of memory (limit: 32Mi)" in done["memory"].error
    assert done["late"].error == "Step timed out after 8s"
    assert texts(job, "late") == ["began"]
    assert done["inside"].status == "completed", done["inside"].error
    assert texts(job, "inside", "stdout") == [
        "/workspace/sub",
        '{"mode": "fast"}',
        "FAST fast",
        "0",
    ]
    assert texts(job, "inside", "stderr") == ["to stderr"]
    assert texts(job, "image", "stdout")[0] == '{"mode": "slow"}'
    assert "No such file" in texts(job, "image", "stdout")[1]
    assert left(docker_engine, job) == []


def test_a_container_sees_the_revision_that_its_job_began_with(
    calm_house: House, tmp_path: Path, base_image: str
) -> None:
    """What a step saw hung on a name, under which a newer revision could be by then."""
    actions = "".join(
        f"{mode}:\n  type: script\n  runner: docker\n  workspace: {mode}\n  script: cat version\n"
        for mode in ("readonly", "copy")
    )
    found = workspace(tmp_path, {"workflow.yaml": flow(actions), "version": "first\n"})
    job = start(found)
    (tmp_path / found.name / "version").write_text("second\n")
    import_folder(found.name, tmp_path / found.name)
    later = start(found)
    begin(calm_house, runner_image=base_image)
    for one, expected in ((job, "first"), (later, "second")):
        assert end_of(one).status == "completed"
        assert [texts(one, mode) for mode in ("readonly", "copy")] == [[expected], [expected]]


SLEEPER = """
actions:
  hold:
    type: script
    runner: docker
    ON_LOST
    input: {who: {type: string, secret: true, default: "canary-in-input"}}
    script: "echo {{ secret.token }} | wc -c; echo ready; sleep 300"
secrets: {token: canary-in-text}
tasks: {main: {flow: {hold: {action: hold}}}}
"""


def sleeper(folder: Path, on_lost: str = "") -> Job:
    text = SLEEPER.replace("ON_LOST", f"on_worker_lost: {on_lost}" if on_lost else "")
    return start(workspace(folder, {"workflow.yaml": text}))


def test_a_cancelled_step_goes_at_once_and_what_the_engine_knows_of_it_holds_no_secret(
    calm_house: House, tmp_path: Path, base_image: str, docker_engine: docker.DockerClient
) -> None:
    begin(calm_house, runner_image=base_image)
    job = sleeper(tmp_path)
    wait_for_text(job, "hold", "ready")
    (container,) = docker_engine.containers.list(filters={"label": f"stroem.io/job={job.id}"})
    seen = container.attrs
    assert "canary-in-text" not in str(seen)
    environment = dict(entry.split("=", 1) for entry in seen["Config"]["Env"])
    assert [name for name, value in environment.items() if "canary" in value] == [
        "STROEM_INPUT_WHO"
    ]
    assert environment["STROEM_INPUT_FILE"] == "/.stroem/input.json"
    assert not [value for value in environment.values() if value.startswith(str(tmp_path))]
    labels = {
        name: value
        for name, value in seen["Config"]["Labels"].items()
        if name.startswith("stroem.io/")
    }
    assert (labels["stroem.io/task"], labels["stroem.io/step"]) == ("main", "hold")
    asked_at = time.monotonic()
    services.cancel_job(job.id, actor="test")
    assert end_of(job).status == "cancelled"
    assert time.monotonic() - asked_at < 15
    assert left(docker_engine, job) == []


@pytest.fixture
def witness(docker_engine: docker.DockerClient) -> Iterator[Witness]:
    found = Witness()
    yield found
    found.close()


def wait_until_gone(engine: docker.DockerClient, job: Job) -> None:
    until(lambda: left(engine, job) == [], within_s=60, every_s=0.1)


def test_the_guard_ends_the_containers_of_a_killed_worker_and_another_takes_the_step_over(
    quick_house: House,
    tmp_path: Path,
    base_image: str,
    docker_engine: docker.DockerClient,
    witness: Witness,
) -> None:
    quick_house.scheduler()
    victim = begin(quick_house, runner_image=base_image)
    job = sleeper(tmp_path, "retry")
    wait_for_text(job, "hold", "ready")
    victim.kill()
    wait_until_gone(docker_engine, job)
    begin(quick_house, runner_image=base_image)
    until(lambda: texts(job, "hold").count("ready") == 2, within_s=60)
    first, second = witness.lives(job)
    assert first.ended is not None and first.ended < second.began
    services.cancel_job(job.id, actor="test")
    assert end_of(job).status == "cancelled"
    assert left(docker_engine, job) == []


@pytest.mark.slow
def test_what_a_worker_left_that_died_with_its_guard_is_swept_by_any_other(
    quick_house: House, tmp_path: Path, base_image: str, docker_engine: docker.DockerClient
) -> None:
    quick_house.scheduler()
    victim = begin(quick_house, runner_image=base_image)
    job = sleeper(tmp_path)
    wait_for_text(job, "hold", "ready")
    kill_with_guard(victim.pid)
    ended = end_of(job)
    assert (ended.status, steps(job)["hold"].error.split()[-2:]) == ("failed", ["was", "lost"])
    assert len(left(docker_engine, job)) == 1
    begin(quick_house, runner_image=base_image)
    wait_until_gone(docker_engine, job)
