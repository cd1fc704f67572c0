"""Attacks on the running system, by kind: each was possible once."""
