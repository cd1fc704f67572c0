"""Importing and refreshing: new revisions, the revision in force, what is stored in clear."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.db import connection

from apps.accounts.models import User
from apps.workspaces import ledger, revisions, secrets, services
from apps.workspaces.errors import SourceError
from apps.workspaces.models import Blob, Revision, Workspace
from apps.workspaces.reading import Rules, load
from apps.workspaces.refreshing import turns
from apps.workspaces.sources.tree import SourceFile, Tree
from console.workspace_path import read_path
from engine.agents.servers import McpRules
from engine.errors import InputError, NotFound

pytestmark = pytest.mark.django_db
GOOD = """
secrets: {db_pw: canary-4711-literal}
connection_types: {pg: {host: {type: string}, password: {type: string, secret: true}}}
connections: {db: {type: pg, host: db.internal, password: canary-4712-literal}, loose: {password: canary-4713-loose}}
actions: {greet: {type: script, script: echo hello}}
tasks: {main: {flow: {one: {action: greet}}}}
"""
BAD = "actions: {greet: {type: scirpt, script: echo}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.yaml").write_text(GOOD)
    return tmp_path


def test_an_import_freezes_a_revision(folder: Path) -> None:
    workspace = services.import_folder("shop", folder)
    assert workspace.problems == []
    assert workspace.current is not None
    assert list(revisions.definition_of(workspace.current_id).tasks) == ["main"]


def test_an_unchanged_folder_makes_no_new_revision(folder: Path) -> None:
    first = services.import_folder("shop", folder)
    again = services.refresh(first)
    assert again.current_id == first.current_id
    assert Revision.objects.count() == 1
    assert again.checked_at >= first.checked_at


def test_a_change_makes_a_new_revision_and_going_back_finds_the_old_one(folder: Path) -> None:
    first = services.import_folder("shop", folder)
    (folder / "data.txt").write_text("new")
    second = services.refresh(first)
    assert second.current_id != first.current_id
    (folder / "data.txt").unlink()
    assert services.refresh(second).current_id == first.current_id


def test_a_broken_file_is_reported_with_its_place_and_the_good_revision_stays(folder: Path) -> None:
    first = services.import_folder("shop", folder)
    (folder / "flow.yaml").write_text(BAD)
    broken = services.refresh(first)
    assert broken.current_id == first.current_id
    assert broken.has_failed
    problem = broken.problems[0]
    assert (problem["file"], problem["line"], problem["severity"]) == ("flow.yaml", 1, "error")
    assert problem["column"] > 1
    assert problem["text"].startswith("flow.yaml:1:")
    (folder / "flow.yaml").write_text(GOOD + "# better\n")
    assert services.refresh(broken).problems == []


def test_a_workspace_that_never_loaded_is_there_without_a_revision(folder: Path) -> None:
    (folder / "flow.yaml").write_text(BAD)
    workspace = services.import_folder("shop", folder)
    assert workspace.current is None
    assert workspace.has_failed


def test_a_folder_that_disappears_is_a_problem_and_not_the_end(
    folder: Path, tmp_path: Path
) -> None:
    first = services.import_folder("shop", folder)
    folder.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    gone = services.refresh(first)
    assert gone.current_id == first.current_id
    assert "there is no folder" in gone.problems[0]["message"]


def test_a_mistyped_path_makes_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        services.import_folder("shop", tmp_path / "nowhere")
    assert not Workspace.objects.exists()


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "ä", "-x", "x" * 101, "a\n"])
def test_names_that_are_no_slugs_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError):
        services.import_folder(name, folder)


def test_what_was_left_out_is_a_warning_of_the_workspace(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    workspace = services.import_folder("shop", folder)
    assert [problem["severity"] for problem in workspace.problems] == ["warning"]
    assert not workspace.has_failed


def test_a_folder_without_workflows_says_so(tmp_path: Path) -> None:
    workspace = services.import_folder("shop", tmp_path)
    assert "no workflow files" in workspace.problems[0]["message"]


def test_two_workspaces_share_one_archive_of_equal_content(folder: Path) -> None:
    services.import_folder("one", folder)
    services.import_folder("two", folder)
    assert (Revision.objects.count(), Blob.objects.count()) == (2, 1)


def test_the_archive_of_a_pinned_revision_outlives_the_change(folder: Path) -> None:
    first = services.import_folder("shop", folder)
    (folder / "flow.yaml").write_text(GOOD + "# changed\n")
    services.refresh(first)
    with tarfile.open(
        fileobj=io.BytesIO(gzip.decompress(ledger.archive(first.current_id)))
    ) as archive:
        content = archive.extractfile("flow.yaml")
        assert content is not None
        assert content.read().decode() == GOOD


def test_the_archive_of_a_revision_that_is_gone_is_not_found() -> None:
    with pytest.raises(NotFound):
        ledger.archive(4711)


def test_no_secret_of_the_files_is_stored_in_clear(folder: Path) -> None:
    services.import_folder("shop", folder)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT string_agg(t.x, ' ') FROM (SELECT to_jsonb(r)::text x FROM workspaces_revision"
            " r UNION ALL SELECT to_jsonb(w)::text FROM workspaces_workspace w UNION ALL SELECT"
            " encode(sealed, 'escape') FROM workspaces_blob) t"
        )
        (everything,) = cursor.fetchone()
    assert "db.internal" not in everything  # connection values are secrets until they are rendered
    assert "canary-47" not in everything
    assert b"canary".hex() not in everything
    assert '"one"' in everything


def test_a_git_repository_is_imported_and_labelled_by_its_commit(folder: Path) -> None:
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    workspace = services.import_git("shop", str(folder), "main", is_local=True)
    assert workspace.current is not None
    assert len(workspace.current.label) == 40
    (folder / "flow.yaml").write_text("not committed: 1")
    assert services.refresh(workspace).current_id == workspace.current_id


def test_a_repository_is_fetched_again_only_when_its_branch_has_moved(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)

    def poll() -> int:
        read.clear()
        services.refresh_if_changed(Workspace.objects.select_related("current").get())
        return len(read)

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "x")
    services.import_git("shop", str(folder), "main", is_local=True)
    read: list[object] = []
    original = services.read_git
    monkeypatch.setattr(services, "read_git", lambda *a: read.append(a) or original(*a))
    assert poll() == 0
    git("commit", "-q", "--allow-empty", "-m", "y")
    assert poll() == 1
    assert poll() == 0


def test_a_caller_cannot_import_a_repository_on_our_disk(folder: Path) -> None:
    with pytest.raises(SourceError, match="operator"):
        services.import_git("shop", f"file://{folder}")


def test_an_unknown_credential_is_refused() -> None:
    with pytest.raises(SourceError, match="git_auth"):
        services.import_git("shop", "https://host/x.git", credential="nobody")


def test_workspaces_are_refreshed_when_their_time_has_come(folder: Path) -> None:
    workspace = services.import_folder("shop", folder)
    assert turns.take_due(also_stopped=True) is None
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE workspaces_workspace SET checked_at = checked_at - interval '61 seconds'"
        )
    assert turns.take_due(also_stopped=True) == turns.Turn(workspace.pk)


def test_workflow_files_and_sources_are_found_through_links(folder: Path) -> None:
    (folder / "ci" / "flows").mkdir(parents=True)
    (folder / "ci" / "flows" / "deploy.yaml").write_text(
        "tasks: {t: {flow: {s: {type: script, source: bin/run}}}}\n"
    )
    (folder / "ci" / "run.sh").write_text("true\n")
    (folder / "bin").symlink_to("ci")
    (folder / "ci" / "run").symlink_to("run.sh")
    (folder / ".workflows").symlink_to("ci/flows")
    workspace = services.import_folder("shop", folder)
    assert workspace.problems == []
    assert workspace.current is not None
    assert list(workspace.current.definition["tasks"]) == ["t"]


def test_a_link_beside_its_workflow_file_does_not_define_it_twice(folder: Path) -> None:
    name = next(folder.glob("*.yaml")).name
    (folder / "latest.yaml").symlink_to(name)
    (folder / "copy").symlink_to(".")
    assert services.import_folder("shop", folder).problems == []


def test_what_is_left_out_is_told_by_validate_as_well(folder: Path) -> None:
    (folder / "dangling").symlink_to("nowhere")
    (folder / "node_modules").mkdir()
    _, loaded = read_path(str(folder))
    assert [problem.place.file for problem in loaded.problems] == ["node_modules", "dangling"]


def test_approvers_who_do_not_exist_are_a_warning_with_the_nearest_name(tmp_path: Path) -> None:
    Group.objects.create(name="release-managers")
    User.objects.create_user(email="Ada@example.org", password="long enough password")
    (tmp_path / "flow.yaml").write_text("""
actions:
  ask:
    type: approval
    message: ok?
    approvers: {users: [ada@example.org, bob@example.org], groups: [release-manager]}
    escalation: {after: 1h, groups: [release-managers, nobody-knows]}
tasks:
  main: {flow: {go: {action: ask}, inline: {type: approval, message: x, approvers: {groups: [ops]}}}}
""")
    found = services.import_folder("shop", tmp_path)
    assert found.current is not None
    assert [problem["message"] for problem in found.problems] == [
        "Approval 'ask' asks the user 'bob@example.org', which does not exist here",
        "Approval 'ask' asks the group 'release-manager', which does not exist here (did you mean"
        " 'release-managers'?)",
        "Approval 'ask' asks the group 'nobody-knows', which does not exist here",
        "Approval 'main/inline' asks the group 'ops', which does not exist here",
    ]


def test_a_secret_stored_on_the_server_is_known(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("""
tasks:
  main:
    flow: {one: {type: script, script: x, env: {A: "{{ secret.stored }}", B: "{{ secret.other }}"}}}
""")
    found = services.import_folder("shop", tmp_path)
    assert len(found.problems) == 2
    secrets.store_secret(found, "stored", "a-value-to-keep", by="test")
    (problem,) = services.refresh(found).problems
    assert "references secret 'other' which is not defined" in problem["message"]


def test_a_new_workspace_is_kept_if_it_has_a_revision(folder: Path) -> None:
    def fail(workspace: Workspace) -> Workspace:
        raise SourceError("no process for reading")

    (folder / "flow.yaml").write_text(BAD)
    assert services.import_folder("shop", folder).current is None
    with pytest.raises(SourceError):
        services.import_folder("shop", folder, read=fail)
    assert not Workspace.objects.exists()
    assert services.import_folder("kept", folder, keeps=True).has_failed
    (folder / "flow.yaml").write_text(GOOD)
    services.import_folder("shop", folder)
    (folder / "flow.yaml").write_text(BAD)
    assert services.import_folder("shop", folder).has_failed
    with pytest.raises(SourceError):
        services.import_folder("shop", folder, read=fail)
    assert set(Workspace.objects.values_list("name", flat=True)) == {"shop", "kept"}


def test_agents_are_told_what_this_installation_has_not() -> None:
    flow = """
mcp_servers: {tickets: {transport: stdio, command: tickets-mcp}}
tasks:
  main:
    flow:
      ask:
        type: agent
        provider: clade
        prompt: x
        tools: [{mcp: tickets}]
"""
    tree = Tree((SourceFile("flow.yaml", flow.encode()),))
    rules = Rules(providers=["claude"], mcp=McpRules())
    provider, server = load(tree, "shop", rules=rules).problems
    assert provider.code == "unknown-provider" and "did you mean 'claude'?" in provider.message
    assert server.code == "mcp-refused" and "MCP server 'tickets'" in server.message
    assert load(tree, "shop").problems == ()  # where nothing is known of the installation
