"""Reads the files of a workspace out of a folder or a git repository, as plain bytes, within
limits.

Nothing of a source is ever run or checked out: no hooks, no filters, no links, no submodules.
"""

from apps.workspaces.sources.folder import read_folder
from apps.workspaces.sources.git import GitSource, read_git
from apps.workspaces.sources.single import read_file
from apps.workspaces.sources.tree import Limits, SourceFile, Tree

__all__ = ["GitSource", "Limits", "SourceFile", "Tree", "read_file", "read_folder", "read_git"]
