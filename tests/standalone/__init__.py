"""Everything on one machine: servers of our own, supervision, and the servers of the tests."""
