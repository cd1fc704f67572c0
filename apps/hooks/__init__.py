"""Hooks of a job: on_success, on_error, on_cancel, on_suspended."""
