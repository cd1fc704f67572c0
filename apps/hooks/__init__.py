"""What the end or the suspension of a job sets off: on_success, on_error, on_cancel,
on_suspended."""
