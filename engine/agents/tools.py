"""Names as models see them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

TASK_TOOL = "strom_task_"
MCP_TOOL = "mcp_"
ASK_USER = "ask_user"
LONGEST_TOOL_NAME = 64
OUTPUT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # of a field: what every provider takes


def name_of(tool: Mapping[str, Any]) -> str:
    """The name of a task's tool; for a server, the beginning of its tools' names."""
    if "task" in tool:
        return TASK_TOOL + _plain(str(tool["task"]))
    return f"{MCP_TOOL}{_plain(str(tool.get('mcp', '')))}_"


def name_of_remote(server: str, tool: str) -> str:
    """The name of a server's tool; one that is too long ends in a digest of it."""
    name = name_of({"mcp": server}) + _plain(tool)
    if len(name) <= LONGEST_TOOL_NAME:
        return name
    digest = hashlib.sha256(f"{server}/{tool}".encode()).hexdigest()[:8]
    return f"{name[: LONGEST_TOOL_NAME - 9]}_{digest}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
