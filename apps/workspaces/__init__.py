"""Sources of definitions (folder, git), frozen revisions, secrets, connections."""
