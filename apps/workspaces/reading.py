"""From the files of a tree to a definition: which files count, opened where SOPS locked them.
Reading needs no Django: the client validates with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from apps.workspaces.errors import LIMIT, LimitError, SourceError
from apps.workspaces.providers import refused_servers, unknown_providers
from apps.workspaces.sources.tree import SourceFile, Tree
from engine.agents.servers import McpRules
from engine.orders import HELPER
from engine.spec import parser as spec
from engine.spec.libraries import FOLDER
from engine.spec.model import Loaded, Place, Problem, Workspace

# always read as a Torc file, even if it does not look like one
SPECIFICATIONS = (".json", ".json5", ".kdl")
PROSE = (".md", ".rst", ".txt")
_STATE = (b"STATE_DIR", b"STATE_OUT_DIR")
_ARTIFACTS = (b"ARTIFACTS_DIR", HELPER.encode() + b" artifact")
_ENCRYPTED = re.compile(r"(?:^|/)[^./][^/]*\.sops\.ya?ml$")


def leave_locked(content: bytes, name: str) -> bytes:
    raise SourceError("the file is encrypted with SOPS: only the server can check it")


@dataclass(frozen=True, slots=True)
class Rules:
    """What an installation decides about definitions. `providers`: of language models; None where
    they are not known."""

    unsafe_templates: Literal["warn", "refuse"] = "warn"
    definition_mb: int = 8
    decrypt: Callable[[bytes, str], bytes] = leave_locked
    providers: Collection[str] | None = None
    mcp: McpRules | None = None  # the same


def rules_here() -> Rules:
    """Those of the installation, which has Django."""
    from django.conf import settings

    from apps.workspaces import sops

    given = settings.STROEM
    return Rules(
        given.unsafe_templates,
        given.refresh.definition_mb,
        sops.decrypt,
        given.agents.providers,
        given.agents.mcp,
    )


def is_encrypted(path: str) -> bool:
    """Whether the name of the file says that SOPS encrypted it."""
    return _ENCRYPTED.search(path) is not None


def load(
    tree: Tree, name: str, stored_secrets: Container[str] = (), rules: Rules = Rules()
) -> Loaded:
    """The definition in the files of `tree`, with SOPS files decrypted, and all problems."""
    by_path = {file.path: file.content for file in tree.files}
    chosen: dict[str, bytes] = {}
    problems: list[Problem] = []
    aliases = tree.aliases()
    selected = _select(by_path, aliases)
    if too_much := _too_much(by_path, aliases, selected, rules.definition_mb):
        return Loaded(None, (too_much,))
    by_path |= {path: aliases[path].content for path in selected if path in aliases}
    alone = [path for path in by_path if len(by_path) == 1 and Path(path).suffix in SPECIFICATIONS]
    for path in selected or alone:
        try:
            content = by_path[path]
            chosen[path] = rules.decrypt(content, name) if is_encrypted(path) else content
        except SourceError as error:
            code = LIMIT if isinstance(error, LimitError) else "sops"
            problems.append(Problem(Place(path), code, str(error)))
    loaded = spec.load(
        chosen,
        name=name,
        paths=tree.names,
        unsafe_templates=rules.unsafe_templates,
        stored_secrets=stored_secrets,
    )
    if not chosen and not problems:
        message = (
            "the workspace has no workflow files: *.yaml or *.yml, in .workflows/ or beside it"
        )
        problems.append(Problem(Place(), "empty", message, "warning"))
    if loaded.workspace is not None:
        problems += _refused_to_agents(loaded.workspace, rules)
    found = (*problems, *loaded.problems)
    has_errors = any(problem.severity == "error" for problem in found)
    workspace = None if has_errors else loaded.workspace
    if workspace is not None:
        workspace = replace(
            workspace,
            mentions_state=_mention(tree.files, _STATE),
            mentions_artifacts=_mention(tree.files, _ARTIFACTS),
            mentions_helper=_mention(_scripts(tree.files), (HELPER.encode(),)),
        )
    return Loaded(workspace, found)


def _refused_to_agents(workspace: Workspace, rules: Rules) -> list[Problem]:
    if all(action.type != "agent" for action in workspace.actions.values()):
        return []
    found: list[Problem] = []
    if rules.providers is not None:
        found += unknown_providers(workspace, rules.providers)
    if rules.mcp is not None:
        found += refused_servers(workspace, rules.mcp)
    return found


def _mention(files: Iterable[SourceFile], names: Sequence[bytes]) -> bool:
    """Whether a script may use these directories: its task's definition need not say so."""
    return any(
        name in file.content for file in files if not file.path.endswith(PROSE) for name in names
    )


def _scripts(files: Iterable[SourceFile]) -> Iterator[SourceFile]:
    """Files that steps may run; what workflow files hold is known of each step."""
    return (file for file in files if not file.path.endswith((".yaml", ".yml")))


def _too_much(
    by_path: Mapping[str, bytes],
    aliases: Mapping[str, SourceFile],
    selected: Sequence[str],
    most: int,
) -> Problem | None:
    """Whoever starts, shows or advances a job loads the whole definition."""
    sizes = [len(by_path[p] if p in by_path else aliases[p].content) for p in selected]
    if sum(sizes) <= most * 1_000_000:
        return None
    message = f"the workflow files of the workspace hold more than {most} MB; split the workspace"
    return Problem(Place(), LIMIT, message)


def _select(by_path: Mapping[str, bytes], aliases: Mapping[str, SourceFile]) -> list[str]:
    """The workflow files: each once, by its own name rather than that of a link to it."""
    known = {**by_path, **{path: file.content for path, file in aliases.items()}}
    own = {path: content for path, content in known.items() if spec.library_of(path) is None}
    found = [*spec.select(own), *spec.select_specifications(own), *_select_in_libraries(by_path)]
    seen = {path for path in found if path in by_path}
    selected = []
    for path in found:
        real = aliases[path].path if path in aliases else path
        if real == path or real not in seen:
            selected.append(path)
        seen.add(real)
    return selected


def _select_in_libraries(by_path: Iterable[str]) -> list[str]:
    """Their YAML files; what SOPS encrypted holds secrets, which libraries do not bring."""
    inner: dict[str, list[str]] = {}
    for path in by_path:
        if (library := spec.library_of(path)) is not None and not is_encrypted(path):
            prefix = f"{FOLDER}/{library}/"
            inner.setdefault(prefix, []).append(path.removeprefix(prefix))
    return [prefix + path for prefix, paths in inner.items() for path in spec.select(paths)]
