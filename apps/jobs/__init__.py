"""Jobs, steps, attempts, events, logs: claim, finish, advance. The only room that writes the status
of a step or job."""
