"""Approval gates: requests, who may decide, decisions, reminders, and the pages for them."""
