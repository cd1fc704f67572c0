"""Approval gates: who may decide, the one decision, reminders, links, and the record of it all."""
