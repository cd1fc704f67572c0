"""Steps as processes of this host.

Belongs here: the local runner, one process from its start until nothing of it is left, the
environment it gets, the toolchains of the host and the dependencies that scripts declare. Does not
belong here: how to find and end processes of a dead worker (see `guard`), and anything that a
container brings itself (see `containers`).
"""
