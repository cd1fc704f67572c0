"""From material to an order, without side effects: inputs, templates, environment.

Authors' templates are rendered once. What they insert (a caller's input, a step's output) is data
and never rendered again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from apps.jobs.ledger import Claim, Home, Material
from engine import templating
from engine.errors import AuthorError, InputError, TemplateError
from engine.masking import MASK, secret_strings
from engine.orders import HELPER, INPUTS_FILE, ContainerWishes, Resources
from engine.resources import read_memory
from engine.spec import inputs
from engine.spec.model import Action, Artifacts, InputField, OutputField
from engine.spec.torc.recovery import with_recovery
from engine.state import names

PRIMITIVES = frozenset(
    {"string", "text", "integer", "number", "boolean", "bool", "date", "datetime"}
)
LONGEST_VALUE = 100_000  # bytes of one environment variable: Linux allows 128 KiB
SHORTEST_MADE = 8  # letters of a text made of secrets that is masked: shorter ones may be anything
ALL_VALUES = 600_000  # bytes of all variables together: the stack limits them


class Unrenderable(AuthorError):
    """A field of a step cannot be rendered; the message names step and field."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A fully rendered action. Values may be secret."""

    action: Action
    input: Mapping[str, Any] = field(repr=False)
    # the input with its secret fields blanked
    seen: Mapping[str, Any] = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    masks: tuple[str, ...] = field(repr=False)
    script: str | None = field(repr=False, default=None)
    source: str | None = None
    args: tuple[str, ...] = field(repr=False, default=())
    image: str | None = None
    cmd: str | None = field(repr=False, default=None)
    manifest: Mapping[str, Any] | None = field(repr=False, default=None)
    resources: Resources = field(default_factory=Resources)
    notes: tuple[str, ...] = ()  # for the step's log
    artifacts: Artifacts | None = None
    calls_helper: bool = False  # its own code mentions `stroem-step`

    @property
    def is_open(self) -> bool:
        """Whether the script is as its author wrote it, without known secrets: then any user of
        this host may read it."""
        script = self.script
        return (
            script is not None
            and script == self.action.script
            and not any(mask in script for mask in self.masks)
        )


def render(claim: Claim, material: Material) -> Rendered:
    """Render all templates of the step. Raises AuthorError with one sentence."""
    action = material.action
    context, final, told = _context(claim, material)
    whole: dict[str, Any] = context["input"]

    def text(field_name: str, value: str) -> str:
        return str(_told(claim, field_name, lambda: templating.render(value, context)))

    rendered_env = {name: text(f"env.{name}", value) for name, value in action.env.items()}
    args = tuple(text(f"args[{at}]", value) for at, value in enumerate(action.args))
    secret = [name for name in inputs.secret_fields(action.input) if final.get(name) is not None]
    hidden = [final[name] for name in secret]
    hidden += _made_of_secrets(
        (*action.env.values(), *action.args), (*rendered_env.values(), *args)
    )
    hidden += _made_of_secrets(
        material.step.input.values(), (final.get(name) for name in material.step.input)
    )
    env, notes = _environment(claim, material, whole, final)
    return Rendered(
        action=action,
        input=whole,
        seen={**final, **dict.fromkeys(secret, MASK)},
        env={**rendered_env, **env},
        masks=_masks(material.masks, hidden),
        script=None if action.script is None else _script(text("script", action.script), material),
        source=None if action.source is None else text("source", action.source),
        args=args,
        image=None if action.image is None else text("image", action.image),
        cmd=None if action.cmd is None else text("cmd", action.cmd),
        manifest=None if action.manifest is None else _leaves(action.manifest, "manifest", text),
        resources=_resources(action.resources),
        notes=(*told, *notes),
        artifacts=material.step.artifacts,
        calls_helper=any(
            HELPER in t for t in (action.script or "", *action.args, *action.env.values())
        ),
    )


@dataclass(frozen=True, slots=True)
class Prompts:
    """What an agent step says to the model, rendered. Values may be secret."""

    prompt: str = field(repr=False)
    system: str = field(repr=False)
    output: Mapping[str, OutputField] = field(repr=False)
    input: Mapping[str, Any] = field(repr=False)
    seen: Mapping[str, Any] = field(repr=False)
    masks: tuple[str, ...] = field(repr=False)


def render_prompts(claim: Claim, material: Material) -> Prompts:
    """Render an agent step. Raises AuthorError with one sentence."""
    action = material.action
    context, final, _ = _context(claim, material)

    def text(field_name: str, value: str) -> str:
        return str(_told(claim, field_name, lambda: templating.render(value, context)))

    output = {
        name: replace(
            declared,
            description=_leaves(declared.description, f"output.{name}.description", text),
            options=None
            if declared.options is None
            else tuple(_leaves(declared.options, f"output.{name}.options", text)),
        )
        for name, declared in action.output.items()
    }
    secret = [name for name in inputs.secret_fields(action.input) if final.get(name) is not None]
    return Prompts(
        prompt=text("prompt", action.prompt or ""),
        system=text("system_prompt", action.system_prompt or ""),
        output=output,
        input=context["input"],
        seen={**final, **dict.fromkeys(secret, MASK)},
        masks=_masks(material.masks, [final[name] for name in secret]),
    )


def _context(
    claim: Claim, material: Material
) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """What the templates of the action read, the step's own input, and which connections in it the
    database holds, for the step's log."""
    context: dict[str, Any] = {
        **({} if material.state is None else names(material.state)),
        **material.outputs,
        "input": material.job_input,
        "secret": material.secrets,
        "secrets": material.secrets,
    }
    if material.each is not None:
        context["each"] = material.each
    final, told = _final_input(claim, material, context)
    if material.home is not None:  # the caller's secrets are none of the owner's business
        return {"input": final, **_secrets_of_action(material)}, final, told
    # an inline step is a part of its task: it sees the job's input, below its own
    context["input"] = {**_input_of_job(material), **final} if _is_inline(material) else final
    return context, final, told


def _secrets_of_action(material: Material) -> dict[str, Any]:
    secrets = material.secrets if material.home is None else material.home.secrets
    return {} if secrets is None else {"secret": secrets, "secrets": secrets}


def _is_inline(material: Material) -> bool:
    return material.step.action.startswith("_inline:")


def _input_of_job(material: Material) -> dict[str, Any]:
    return {name: value for name, value in material.job_input.items() if value is not None}


def _script(script: str, material: Material) -> str:
    return with_recovery(script, *material.recovery) if material.recovery else script


def _final_input(
    claim: Claim, material: Material, context: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    fields = material.action.input
    given: dict[str, Any] = {
        name: _told(claim, f"input '{name}'", partial(templating.render_value, value, context))
        for name, value in material.step.input.items()
    }
    for name in fields if material.home is None else ():
        if name not in given and material.job_input.get(name) is not None:
            given[name] = material.job_input[name]
    try:
        final = inputs.resolve(fields, given, _defaults(claim, material, given), allow_unknown=True)
    except InputError as error:
        raise Unrenderable(f"Step '{claim.step_name}': {error}") from None
    told = []
    for name, value in final.items():
        declared = fields.get(name)
        if declared is not None and declared.type not in PRIMITIVES:
            whose: Material | Home = material
            if material.home is not None and given.get(name) in (None, ""):  # the owner's default
                whose = material.home
            final[name] = _connect(claim, name, declared, value, whose)
            if isinstance(value, str) and value in whose.stored_connections:
                told.append(whose.stored_connections[value].note(value))
    return final, tuple(dict.fromkeys(told))


def _defaults(claim: Claim, material: Material, given: Mapping[str, Any]) -> dict[str, Any]:
    """Render defaults that are templates; they see only secrets."""
    context = _secrets_of_action(material)
    return {
        name: _told(
            claim,
            f"default of input '{name}'",
            partial(templating.evaluate, field.default, context),
        )
        for name, field in material.action.input.items()
        if field.has_default
        and isinstance(field.default, str)
        and "{" in field.default
        and given.get(name) is None
    }


def _connect(
    claim: Claim, name: str, declared: InputField, value: Any, whose: Material | Home
) -> Any:
    """The values of the connection named by `value`; an object is returned as it is."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, str):
        raise Unrenderable(
            f"Step '{claim.step_name}': Input field '{name}' expects a connection name (string)"
        )
    found = whose.connections.get(value)
    if found is None:
        raise Unrenderable(
            f"Step '{claim.step_name}': Input field '{name}' references connection '{value}' which"
            " does not exist"
        )
    kind = found.get("type")
    if kind is not None and kind != declared.type:
        raise Unrenderable(
            f"Step '{claim.step_name}': Input field '{name}' expects type '{declared.type}' "
            f"but connection '{value}' is type '{kind}'"
        )
    trouble = value in whose.stored_connections and whose.stored_connections[value].trouble
    if trouble:
        raise Unrenderable(
            f"Step '{claim.step_name}': connection '{value}' of the database no longer fits its"
            f" type ({trouble}); store its values again on its page, or remove it there"
        )
    return {key: item for key, item in found.items() if key != "type"}


def _made_of_secrets(templates: Iterable[Any], values: Iterable[Any]) -> list[str]:
    """Texts that templates make of nothing but secrets, such as `{{ secret.token | upper }}`: they
    give the secret away as well as it does itself."""
    return [
        value
        for template, value in zip(templates, values, strict=True)
        if isinstance(template, str)
        and "secret" in template
        and isinstance(value, str)
        and len(value) >= SHORTEST_MADE
        and templating.is_of_secrets(template)
    ]


def _environment(
    claim: Claim, material: Material, given: Mapping[str, Any], own: Container[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables, and notes about the step's own inputs that do not fit: their variables say
    where the value is, so that no script takes them for empty."""
    env = {
        "STROEM_JOB_ID": str(claim.job_id),
        "STROEM_TASK_NAME": claim.task_name,
        "STROEM_STEP_NAME": claim.step_name,
        "STROEM_WORKSPACE": claim.workspace,
        "STROEM_ATTEMPT_NUMBER": str(claim.number),
        **({"STROEM_SCHEDULED_AT": _moment(claim.scheduled_at)} if claim.scheduled_at else {}),
        **material.environment,
    }
    notes = []
    if material.home is not None:
        env["STROEM_ACTION_WORKSPACE"] = material.home.workspace
        notes.append(_borrowed(material, material.home))
    left = ALL_VALUES
    for name, value in given.items():
        variable = inputs.variable_of(name)
        text = as_text(value)
        size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if size <= min(LONGEST_VALUE, left) and "\0" not in text:
            left -= size
            env[variable] = text
            continue
        env[variable] = _reason(name, variable, size)
        if name in own:
            notes.append(f"Warning: {env[variable]}")
    return env, tuple(notes)


def _borrowed(material: Material, home: Home) -> str:
    name = material.step.action.partition(".")[2]
    how = "without" if home.secrets is None else "with"
    return (
        f"Action '{name}' of workspace '{home.workspace}' at {home.digest[:12]}, {how} its secrets"
    )


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _reason(name: str, variable: str, size: int) -> str:
    if size > LONGEST_VALUE:
        limit = f"a variable holds at most {LONGEST_VALUE:,}"
    else:
        limit = f"all inputs together may have {ALL_VALUES:,} in variables"
    return (
        f"input '{name}' ({size:,} bytes) does not fit into {variable}: {limit}; read it from the"
        f" JSON file named by {INPUTS_FILE}"
    )


def as_text(value: Any) -> str:
    """A value as a script sees it: text unchanged, null as empty text, anything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _leaves(value: Any, at: str, text: Callable[[str, str], str]) -> Any:
    if isinstance(value, str):
        return text(at, value)
    if isinstance(value, Mapping):
        return {key: _leaves(item, f"{at}.{key}", text) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_leaves(item, f"{at}[{index}]", text) for index, item in enumerate(value)]
    return value


def _resources(asked: Mapping[str, Any]) -> Resources:
    if not asked:
        return Resources()
    cpu, memory = asked.get("cpu"), asked.get("memory")
    return Resources(
        cpu=None if cpu is None else str(cpu),
        memory=None if memory is None else str(memory),
        num_cpus=asked.get("num_cpus"),
        num_gpus=asked.get("num_gpus"),
    )


def wishes_of(action: Action) -> ContainerWishes:
    """What the action asks of its container."""
    return ContainerWishes(
        None if action.shm_size is None else read_memory(action.shm_size),
        action.user,
        action.platform,
        action.pull,
        action.volumes,
    )


def _masks(known: tuple[str, ...], hidden: list[Any]) -> tuple[str, ...]:
    if not hidden:
        return known
    return tuple(sorted({*known, *secret_strings(hidden)}))


def _told(claim: Claim, field_name: str, rendering: Callable[[], Any]) -> Any:
    try:
        return rendering()
    except TemplateError as error:
        raise Unrenderable(
            f"Step '{claim.step_name}': Failed to render {field_name}: {error}"
        ) from None
