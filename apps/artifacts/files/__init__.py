"""A job's artifacts: which files its steps have left, for whom, and for how long."""
