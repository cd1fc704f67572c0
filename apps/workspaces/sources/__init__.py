"""Reads the files of a workspace from a folder or a git repository, as plain bytes, within limits.

Nothing from a source is executed or checked out: no hooks, filters or submodules. No link is
followed.
"""

from apps.workspaces.sources.folder import read_folder
from apps.workspaces.sources.git import GitSource, read_git
from apps.workspaces.sources.single import read_file
from apps.workspaces.sources.tree import Limits, SourceFile, Tree

__all__ = ["GitSource", "Limits", "SourceFile", "Tree", "read_file", "read_folder", "read_git"]
