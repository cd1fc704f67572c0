"""Jobs, steps, attempts, events, logs: claim, finish, advance. The only room that writes a step or
job status."""
