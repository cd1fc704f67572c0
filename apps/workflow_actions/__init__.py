"""What life-cycle events of a job set off: run_commands and schedule_nodes."""
