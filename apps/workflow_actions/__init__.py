"""What events in a job's life set off: run_commands and schedule_nodes."""
