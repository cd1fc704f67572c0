"""Approval requests and decisions, and the screen where people decide."""
