"""Approval gates: what is asked, who may decide, the one decision, reminders, and the screen where
people decide."""
