"""The examples of the documentation, as they are, on an engine that is reached over TLS and shares
no file with its worker: Docker in Docker, as beside a worker of the chart."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.acceptance.engines import end_of, flow, steps, texts, unique, workspace
from tests.acceptance.test_docker import full_image, images
from tests.apps.jobs.builders import start
from tests.house import House
from tests.runners.docker.second_engine import SecondEngine

__all__ = ["full_image", "images"]
pytestmark = [pytest.mark.docker, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

# What differs: names of private images, `workspace: copy` for what writes to its workspace, and
# `raw` around braces that are Python's.
EXAMPLES = """
migrate-db:
  type: docker
  image: MIGRATIONS
  env:
    DB_URL: "{{ secret.db_url }}"
deploy:
  type: docker
  image: TOOL
  cmd: "deploy --env production"
custom-entrypoint:
  type: docker
  image: TOOL
  entrypoint: ["/app/run"]
  cmd: "--verbose --env staging"
lint-python:
  type: script
  runner: docker
  workspace: copy
  script: "pip install ruff && ruff check /workspace"
run-tests:
  type: script
  runner: docker
  workspace: copy
  script: "cd /workspace && npm ci && npm test"
analyze:
  type: script
  runner: docker
  language: python
  dependencies: [pandas]
  script: |
    import pandas as pd
    df = pd.read_csv("/workspace/data.csv")
    {% raw %}print(f"OUTPUT: {{\\"rows\\": {len(df)}}}"){% endraw %}
analyze-script:
  type: script
  runner: docker
  script: |
    uv pip install pandas requests --system
    uv run python /workspace/scripts/analyze.py
generate-report:
  type: script
  runner: docker
  workspace: copy
  script: |
    cd /workspace
    bun install
    bun run scripts/report.ts
"""
PACKAGE = {
    "name": "example",
    "version": "1.0.0",
    "scripts": {"test": "node -e \"if (!require('is-odd')(3)) process.exit(1)\""},
    "dependencies": {"is-odd": "3.0.1"},
}
FILES = {
    "data.csv": "a,b\n1,2\n3,4\n",
    "package.json": json.dumps(PACKAGE),
    "scripts/analyze.py": (
        "import pandas as pd\nimport requests\n\nprint(requests.__version__)\n"
        "print(f\"OUTPUT: {len(pd.read_csv('/workspace/data.csv'))}\")\n"
    ),
    "scripts/report.ts": (
        'import isOdd from "is-odd";\nconst found: boolean = isOdd(3);\n'
        "console.log(`OUTPUT: ${found}`);\n"
    ),
}


@pytest.fixture
def inner(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    calm_house: House,
    docker_engine: docker.DockerClient,
) -> Iterator[SecondEngine]:
    """The house's environment leads to it."""
    folder = tmp_path_factory.mktemp("tls")
    found = SecondEngine(folder, hidden=tmp_path, uses_tls=True, uplink=docker_engine)
    calm_house.env |= found.environment
    yield found
    found.close()


def lock_of(folder: Path) -> str:
    """The lock file of PACKAGE, which `npm ci` demands."""
    (folder / "package.json").write_text(FILES["package.json"])
    subprocess.run(
        ["npm", "install", "--package-lock-only", "--silent"], cwd=folder, check=True, timeout=120
    )
    return (folder / "package-lock.json").read_text()


def test_the_documented_examples_run_on_docker_in_docker_over_tls(
    calm_house: House,
    tmp_path: Path,
    inner: SecondEngine,
    docker_engine: docker.DockerClient,
    images: dict[str, str],
    full_image: str,
) -> None:
    for image in (*images.values(), full_image):
        inner.load(image, docker_engine)
    text = EXAMPLES.replace("MIGRATIONS", images["migrations"]).replace("TOOL", images["tool"])
    files = FILES | {
        "workflow.yaml": flow(text, secrets='{db_url: "postgres://u:pw-canary@db/x"}'),
        "package-lock.json": lock_of(tmp_path),
    }
    calm_house.worker(unique("docker"), "docker", docker={"pull": "never"}, runner_image=full_image)
    job = end_of(start(workspace(tmp_path, files)), within_s=600)
    done = steps(job)
    bad = {name: step.error for name, step in done.items() if step.status != "completed"}
    assert bad == {}
    assert done["migrate-db"].output == {"tables": 3}
    assert texts(job, "migrate-db")[0] == "migrated postgres"
    assert texts(job, "deploy") == ["deploy --env production to "]
    assert texts(job, "custom-entrypoint") == ["deploy --verbose --env staging to "]
    assert done["analyze"].output == {"rows": 2}
    assert done["analyze-script"].output == 2
    assert done["generate-report"].output is True
    assert "All checks passed!" in texts(job, "lint-python")
    client = inner.connect()
    try:
        assert client.containers.list(all=True) == []
    finally:
        client.close()
