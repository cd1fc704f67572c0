from __future__ import annotations

from engine.spec import select


def test_the_workflows_folder_hides_the_rest():
    paths = [
        "a.yaml",
        ".workflows/b.yml",
        ".workflows/x/c.yaml",
        ".workflows/run.sh",
        "docs/d.yaml",
    ]
    assert select(paths) == [".workflows/b.yml", ".workflows/x/c.yaml"]


def test_without_it_every_yaml_file_counts_dot_folders_included():
    assert select(["b.yaml", "a.yml", ".ci/c.yaml", "d.txt", "yaml"]) == [
        ".ci/c.yaml",
        "a.yml",
        "b.yaml",
    ]


def test_the_order_is_by_path_part_by_part():
    assert select(["a-b.yaml", "a/z.yaml", "a.yaml"]) == sorted(
        ["a-b.yaml", "a/z.yaml", "a.yaml"], key=lambda p: p.split("/")
    )


def test_ten_levels_below_the_scanned_folder_are_looked_at():
    deep = "/".join("abcdefghi") + "/x.yaml"
    assert select([deep, "z/" + deep]) == [deep]
    assert select([f".workflows/{deep}", f".workflows/z/{deep}"]) == [f".workflows/{deep}"]


def test_sops_settings_are_no_workflow_but_encrypted_files_are():
    assert select([".sops.yaml", "secrets.sops.yaml"]) == ["secrets.sops.yaml"]
