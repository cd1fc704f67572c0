"""Specifications that nobody should write: no exception, a second at most, and every refusal has
its place."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import spec
from engine.spec.model import Loaded
from tests.engine.spec.test_hostile import within_a_second
from tests.engine.spec.torc.builders import BROKEN, NOTATIONS, SAME

SAMPLES = {suffix: (SAME / f"sweep.{suffix}").read_text() for suffix in NOTATIONS}
SAMPLES_OF = {
    suffix: [text, *(path.read_text() for path in BROKEN.glob(f"*.{suffix}"))]
    for suffix, text in SAMPLES.items()
}
JOBS = "name: x\njobs:\n"
MANY = JOBS + "- {name: 'j{i}', command: x, parameters: {i: '1:20000'}}\n"


def repeated(count: int, **more: str) -> str:
    inner = "".join(f", {key}: {value}" for key, value in more.items())
    return f"- {{name: 'b{{i}}', command: x, parameters: {{i: '1:{count}'}}{inner}}}\n"


YAML = {
    "a bomb of aliases": "name: &a [x, x, x]\n"
    + "".join(f"k{i}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9))
    + "jobs: *j\n",
    "a bomb of parameters": JOBS
    + "- {name: 'j{a}{b}{c}{d}', command: x, parameters: {"
    + ", ".join(f"{name}: '1:90000'" for name in "abcd")
    + "}}\n",
    "as many jobs as there may be": MANY,
    "more jobs than there may be": JOBS
    + "".join(
        f"- {{name: 'j{n}_{{i}}', command: x, parameters: {{i: '1:90000'}}}}\n" for n in range(50)
    ),
    "as many files as there may be": JOBS
    + "- {name: j, command: x, input_file_regexes: ['.']}\n"
    + "files:\n- {name: 'f{i}', path: 'p{i}', parameters: {i: '1:50000'}}\n",
    "a pattern for each job": JOBS + repeated(9999, depends_on_regexes="['^b{i}', 'b{i}$', '{i}']"),
    "a whole name for each job": JOBS + repeated(9000, depends_on_regexes="['^b1$']"),
    "a million edges": JOBS
    + "- {name: 'j{i}', command: x, parameters: {i: '1:9000'}}\n"
    + repeated(9000, depends_on_regexes="['^j']"),
    "one file for all": JOBS
    + repeated(9000, input_files="[f]", output_files="[f]")
    + "files: [{name: f, path: f}]\n",
    "commands that grow": JOBS
    + "- {name: 'j{i}', command: '"
    + "{i} " * 90_000
    + "', parameters: {i: '1:20000'}}\n",
    "data that grows": JOBS
    + "- {name: 'j{i}', command: '"
    + "${user_data.input.u} " * 9_000
    + "', parameters: {i: '1:100'}}\nuser_data: [{name: u, data: '"
    + "x" * 500_000
    + "'}]\n",
    "data within data": JOBS
    + "- {name: j, command: '${user_data.input.u}'}\nuser_data: [{name: u, data: "
    + "[" * 40
    + "]" * 40
    + "}]\n",
    "a pattern of patterns": JOBS
    + "- {name: 'a"
    + "a" * 250
    + "', command: x}\n- {name: b, command: x, "
    "depends_on_regexes: ['(a+)+$', '(a|aa)+$', '(a{1,500}){1,500}', '" + "(" * 400 + "']}\n",
    "patterns of actions": MANY
    + "actions:\n"
    + (
        "- {trigger_type: on_jobs_ready, action_type: run_commands, commands: [x], job_name_regexes: ["
        + ", ".join(f"'(j|x{n})+$'" for n in range(99))
        + "]}\n"
    )
    * 150,
    "names that nothing is like": JOBS
    + "".join(f"- {{name: {'n' * 60}{n}, command: x, depends_on: [z{n}]}}\n" for n in range(8000)),
    "unknown keys": JOBS
    + "- {name: a, command: x, "
    + ", ".join(f"k{n}: 1" for n in range(40_000))
    + "}\n",
    "rules": JOBS
    + "- {name: a, command: x}\nfailure_handlers:\n- name: h\n  rules:\n"
    + "  - {exit_codes: [1], max_retries: 1000}\n" * 20_000,
    "a ring of jobs": JOBS
    + "".join(f"- {{name: j{n}, command: x, depends_on: [j{n + 1}]}}\n" for n in range(9_999))
    + "- {name: j9999, command: x, depends_on: [j0]}\n",
    "exponents": JOBS + "- {name: 'a{i}', command: x, parameters: {i: '0:1e300:1e-300'}}\n"
    "- {name: 'b{i:0999d}', command: '{i:.99f}', parameters: {i: '1:9'}}\n",
    "numbers": JOBS + "- {name: 'a{i}', command: x, parameters: {i: '[" + "9" * 9000 + "]'}}\n",
    "brackets in a value": JOBS
    + "- {name: 'a{i}', command: x, parameters: {i: '"
    + "[" * 90_000
    + "'}}\n",
    "quotes in a value": JOBS
    + "- {name: 'a{i}', command: x, parameters: {i: \"["
    + "'" * 90_001
    + ']"}}\n',
    "braces": JOBS
    + "- {name: '"
    + "{" * 290
    + "', command: '"
    + "{" * 400_000
    + "', parameters: {i: '1:3'}}\n",
}
JSON5 = {
    "open lists": "[" * 900_000,
    "open objects": '{"a":' * 180_000,
    "an open text": '"' + "a" * 900_000,
    "backslashes": '"' + "\\" * 900_001,
    "surrogates": '"' + "\\ud800" * 150_000 + '"',
    "comments": "/**/" * 240_000 + "{",
    "an open comment": "/*" * 400_000,
    "lines of comments": "//\n" * 300_000,
    "blanks": " \n" * 400_000,
    "numbers": "[" + "1," * 400_000 + "]",
    "a number": "1" * 900_000,
    "a hexadecimal number": "0x" + "f" * 900_000,
    "keys": "{" + ",".join(f"k{n}:1" for n in range(90_000)) + "}",
    "one key": "{" + "a:1," * 200_000 + "}",
    "signs": "+-" * 400_000,
    "a long key": "{" + "k" * 900_000 + ":1}",
    "continued": '"' + "\\\n" * 400_000 + '"',
}
KDL = {
    "open blocks": "a {\n" * 200_000,
    "closing": "}" * 900_000,
    "nodes": "a\n" * 400_000,
    "arguments": "job " + '"a" ' * 200_000,
    "properties": "file " + "a=1 " * 200_000,
    "slash-dash": "/-" * 400_000,
    "dropped blocks": "a " + "/-{}" * 200_000,
    "block comments": "/*" * 400_000,
    "block comments that end": "/*/**/*/" * 100_000,
    "raw": "a " + "#" * 900_000 + '"',
    "raw texts": "a " + 'r#""# ' * 150_000,
    "three quotes": 'a """\n' + "x\n" * 400_000,
    "escapes": 'a "' + "\\u{10FFFF}" * 90_000 + '"',
    "types": "a " + "(u8)1 " * 150_000,
    "continuations": "a \\\n" * 200_000,
    "semicolons": ";" * 900_000,
    "a number": "a " + "1" * 900_000,
    "actions": 'action { trigger_type "x" }\n' * 30_000,
    "jobs of one name": 'name "x"\n' + 'job "a" { command "b" }\n' * 40_000,
}
FILES = {
    **{f"yaml: {name}": ("dir/w.yaml", text) for name, text in YAML.items()},
    **{f"json5: {name}": ("dir/w.json5", text) for name, text in JSON5.items()},
    **{f"kdl: {name}": ("dir/w.kdl", text) for name, text in KDL.items()},
}


def judge(file: str, document: str | bytes) -> Loaded:
    loaded = within_a_second(lambda: spec.load({file: document}))
    assert (loaded.workspace is None) == bool(loaded.errors)
    for problem in loaded.problems:
        assert (
            problem.place.file == file and problem.place.line >= 1 and problem.place.column >= 1
        ), problem
        assert problem.message and "\n" not in problem.message and len(problem.message) < 1_500, (
            problem
        )
        problem.message.encode()
    return loaded


@pytest.mark.sample(10)
@pytest.mark.parametrize("name", FILES)
def test_spite_is_judged_within_a_second(name):
    judge(*FILES[name])


@pytest.mark.long
def test_as_much_as_there_may_be_is_taken():
    """That it takes a second at most is seen above."""

    def load(name: str) -> Loaded:
        return spec.load({"dir/w.yaml": YAML[name]})

    assert load("as many jobs as there may be").workspace is not None
    assert load("as many files as there may be").workspace is not None
    refused = (
        "a pattern for each job",
        "a million edges",
        "commands that grow",
        "patterns of actions",
    )
    assert all(load(name).errors[0].code in ("too-many", "regex") for name in refused)


def mutated(chance: random.Random, suffix: str) -> str:
    """A sample with a few letters or lines changed."""
    text = chance.choice(SAMPLES_OF[suffix])
    for _ in range(chance.randint(1, 4)):
        at, size = chance.randrange(len(text)), chance.choice([1, 1, 2, 10, 80])
        match chance.randrange(4):
            case 0:
                text = text[:at] + text[at + size :]
            case 1:
                text = (
                    text[:at]
                    + chance.choice("{}[]():,;\"'\\/#*-=0 \n\0\ud800\x1b\u2028é")
                    + text[at:]
                )
            case 2:
                text = text[:at] + text[max(at - size, 0) : at] * chance.choice([1, 30]) + text[at:]
            case _:
                lines = text.split("\n")
                first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
                lines[first], lines[second] = lines[second], lines[first]
                text = "\n".join(lines)
        text = text or "x"
    return text


@pytest.mark.parametrize("suffix", NOTATIONS)
def test_a_hundred_mutations_of_each_notation(suffix):
    chance = random.Random(suffix)
    refused = 0
    for _ in range(100):
        document = mutated(chance, suffix)
        try:
            refused += judge(f"dir/w.{suffix}", document).workspace is None
        except BaseException:
            print(repr(document))
            raise
    assert refused > 20, "the mutations do harm"


ODD = [
    "null",
    "5",
    "-1",
    "true",
    "[]",
    "{}",
    '[""]',
    "[[]]",
    '{"a": {"b": []}}',
    '"x"',
    '"{i}"',
    '"1:3"',
    "1.5",
    '["a", 5]',
    '"' + "x" * 400 + '"',
    '"\\u2028"',
    '"^a"',
    '["["]',
    '[{"name": "a"}]',
]
KEYS = (
    "name",
    "jobs",
    "files",
    "user_data",
    "resource_requirements",
    "failure_handlers",
    "slurm_schedulers",
    "actions",
    "slurm_defaults",
    "parameters",
    "resource_monitor",
    "command",
    "path",
    "data",
    "rules",
    "exit_codes",
    "num_cpus",
    "memory",
    "runtime",
    "account",
    "trigger_type",
    "action_type",
    "commands",
    "do",
    "needs",
    "jobs",
    "use_parameters",
    "depends_on",
    "input_files",
    "job_name_regexes",
    "scheduler",
    "max_retries",
    "retry",
    "timeout",
    "when",
)


@pytest.mark.long
@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_known_keys_with_values_that_rarely_fit(data):
    def entry() -> str:
        pairs = data.draw(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(ODD), max_size=5))
        return "{" + ", ".join(f'"{key}": {value}' for key, value in pairs.items()) + "}"

    top = data.draw(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(ODD), max_size=5))
    lists = {
        key: f"[{entry()}, {entry()}]"
        for key in data.draw(st.sets(st.sampled_from(KEYS[1:8]), max_size=4))
    }
    pairs = {"name": '"x"', "jobs": '[{"name": "a", "command": "b"}]', **top, **lists}
    judge("dir/w.json", "{" + ", ".join(f'"{key}": {value}' for key, value in pairs.items()) + "}")


@pytest.mark.parametrize("suffix", ["json5", "kdl", "yaml"])
@given(
    document=st.text(max_size=80)
    | st.binary(max_size=80)
    | st.text("{}[]\"'\\/#*-=:, \n1ae.+", max_size=60)
)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_texts_and_bytes_of_any_kind(suffix, document):
    judge(f"dir/w.{suffix}", document)
