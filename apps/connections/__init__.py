"""Pages of connections, and their checks: jobs of one step with the connection's values. What is
stored belongs to `apps.workspaces`."""
