"""Shared admin parts: badges, read-only base, dialogs, job graph. No models, no domain knowledge."""
