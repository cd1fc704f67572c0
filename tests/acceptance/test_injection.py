"""Hostile inputs reach scripts through the safe ways byte for byte, and nothing of them is ever
run.

Many payloads travel in one job: as a list in one input, and each as an input of its own. The step
writes what it got as JSON into a file; a payload that was run would have left its marker beside it.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.jobs import services
from apps.jobs.models import Job
from apps.workspaces.models import Workspace
from tests.apps.jobs.builders import fresh, until, workspace
from tests.house import House

pytestmark = pytest.mark.django_db(transaction=True)
A_STEP = 100  # payloads in one step's variables

SEEDS = (
    "'; touch {m}; #", '"; touch {m}; #', '$(touch {m})', '`touch {m}`', '; touch {m}', '| touch {m}',
    '& touch {m} &', '\n touch {m}\n', '\r\ntouch {m}\r\n', '$(<{m})', '${{IFS}}touch${{IFS}}{m}', "'$(touch {m})'",
    '"$(touch {m})"', "'\\''; touch {m}; '", "\\'; touch {m}; #", '\\"; touch {m}; #', 'EOF\ntouch {m}\nEOF',
    '<<EOF\n$(touch {m})\nEOF', "'''; open('{m}', 'w'); '''", '"""; open("{m}", "w"); """',
    "'+open('{m}','w').name+'", '\\', '\\\\', "'", '"', '`', '$', '!!', '{{{{ secret.token }}}}',
    '{{% for x in range(end=9) %}}x{{% endfor %}}', '{{# note #}}', '${{jndi:ldap://x}}', '%s%n%d', '-n', '-e x',
    '--help', '*', '~', '~root', '$HOME', 'a b\tc', ' leading', 'trailing ', '\t',
    '\xe9 \xfc \u6f22 \U0001f600 \u202e', '\x01\x02\x1b[31m\x7f', 'line\u2028separator\u2029',
    'OUTPUT: {{"hacked": true}}', '\\u0000', '\\x00', 'null', '0', '[1]',
)  # fmt: skip
ALPHABET = string.printable + "éß漢\U0001f600\u202e\u200b\x01\x1b\x7f" + "'\"`$\\;|&(){}<>\n" * 3

TEXT = """
actions:
  shell:
    type: script
    script: |
      python3 - "$STROEM_INPUT_FILE" {{ input.folder | sh }} <<'PY'
      import json, os, sys
      given = json.load(open(sys.argv[1]))
      names = [name for name in given if name.startswith("p")]
      env = [os.environ["STROEM_INPUT_" + name.upper()] for name in names]
      text = json.dumps({"file": [given[name] for name in names], "env": env, "list": given["many"]})
      open(f"{sys.argv[2]}/shell-{given['number']}.json", "w").write(text)
      PY
  quoted:
    type: script
    script: |
      cd {{ input.folder | sh }}
      for payload in {% for one in input.many %}{{ one | sh }} {% endfor %}; do printf '%s\\0' "$payload"; done \\
        > quoted-{{ input.number | sh }}.bin
  variables:
    type: script
    script: |
      cd "$STROEM_INPUT_FOLDER"
      for number in $(seq 0 $((STROEM_INPUT_COUNT - 1))); do
        name="STROEM_INPUT_P$number"; printf '%s\\0' "${!name}"
      done > variables-"$STROEM_INPUT_NUMBER".bin
  python:
    type: script
    language: python
    script: |
      import json, os
      quoted = {{ input.many | py }}
      as_json = json.loads({{ input.many | json_encode | py }})
      given = json.load(open(os.environ["STROEM_INPUT_FILE"]))
      names = [name for name in given if name.startswith("p")]
      env = [os.environ["STROEM_INPUT_" + name.upper()] for name in names]
      found = {"py": quoted, "json": as_json, "env": env, "file": [given[name] for name in names]}
      path = os.environ["STROEM_INPUT_FOLDER"] + "/python-" + str(given["number"]) + ".json"
      open(path, "w").write(json.dumps(found))
tasks:
"""
WAYS = ("shell", "quoted", "variables", "python")


def flow_of() -> str:
    """One task with a step for each way; the payloads are inputs of the task, handed on under the
    same names."""
    names = ["folder", "number", "count", "many", *(f"p{at}" for at in range(A_STEP))]
    fields = ", ".join(
        f"{name}: {{type: text}}" for name in names if name not in ("number", "count", "many")
    )
    handed = ", ".join(f"{name}: '{{{{ input.{name} }}}}'" for name in names)
    steps = "".join(f"      {way}: {{action: {way}, input: {{{handed}}}}}\n" for way in WAYS)
    whole = "number: {type: integer}, count: {type: integer}, many: {type: text, multiple: true}"
    return f"  main:\n    input: {{{whole}, {fields}}}\n    flow:\n{steps}"


def payloads(count: int, marker: Path, seed: int) -> list[str]:
    """The corpus, then mixtures of it and of letters that mean something to somebody."""
    chance = random.Random(seed)
    found = [one.format(m=marker) for one in SEEDS]
    while len(found) < count:
        parts = [
            (
                chance.choice(SEEDS).format(m=marker)
                if chance.random() < 0.5
                else "".join(chance.choices(ALPHABET, k=chance.randint(1, 12)))
            )
            for _ in range(chance.randint(1, 3))
        ]
        found.append("".join(parts))
    return found[:count]


@pytest.fixture
def house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    found = House(tmp_path, process_env)
    yield found
    found.close()


def start(home: Workspace, folder: Path, number: int, batch: list[str]) -> Job:
    given: dict[str, Any] = {f"p{at}": payload for at, payload in enumerate(batch)}
    given |= {"folder": str(folder), "number": number, "count": len(batch), "many": batch}
    return services.start_job(home.name, "main", given)


def check(folder: Path, number: int, batch: list[str]) -> None:
    shell = json.loads((folder / f"shell-{number}.json").read_text())
    python = json.loads((folder / f"python-{number}.json").read_text())
    for way, got in [
        *(("shell " + key, shell[key]) for key in shell),
        *(("python " + key, python[key]) for key in python),
    ]:
        assert got == batch, way
    for way in ("quoted", "variables"):
        got = (folder / f"{way}-{number}.bin").read_bytes().split(b"\0")[:-1]
        assert got == [payload.encode() for payload in batch], way


def send(house: House, tmp_path: Path, count: int, seed: int) -> None:
    home = workspace(tmp_path, TEXT + flow_of())
    house.scheduler()
    house.worker("target")
    folder, marker = tmp_path / "out", tmp_path / "marker"
    folder.mkdir()
    every = payloads(count, marker, seed)
    batches = [every[at : at + A_STEP] for at in range(0, count, A_STEP)]
    jobs = [start(home, folder, number, batch) for number, batch in enumerate(batches)]
    until(
        lambda: all(fresh(job).completed_at for job in jobs), within_s=30 + count / 20, every_s=0.2
    )
    assert {(fresh(job).status, fresh(job).error) for job in jobs} == {("completed", "")}
    for number, batch in enumerate(batches):
        check(folder, number, batch)
    assert not marker.exists() and len(list(folder.iterdir())) == len(WAYS) * len(batches)


def test_two_thousand_payloads_arrive_as_they_are(house: House, tmp_path: Path) -> None:
    send(house, tmp_path, 2_000, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_thousand_payloads_arrive_as_they_are(house: House, tmp_path: Path) -> None:
    send(house, tmp_path, 20_000, seed=random.randrange(10**9))
