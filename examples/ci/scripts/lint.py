"""A very small linter: files must parse, lines must be short enough, imports must be used."""

import ast
import sys
from pathlib import Path

problems = []
for path in sorted(Path("project").glob("*.py")):
    text = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(text, str(path))
    except SyntaxError as error:
        problems.append(f"{path}:{error.lineno}: {error.msg}")
        continue
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > 120 or line != line.rstrip():
            problems.append(f"{path}:{number}: too long, or blanks at its end")
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = (alias.asname or alias.name).split(".")[0]
                if name not in used:
                    problems.append(f"{path}:{node.lineno}: {name} is imported and never used")

print("\n".join(problems) or "nothing to complain about")
sys.exit(1 if problems else 0)
