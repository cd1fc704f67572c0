"""Steps as processes of this host.

Belongs here: the local runner, the supervision of one process, its environment, the toolchains of
the host and the dependencies that scripts declare. Does not belong here: finding and ending
processes of a dead worker (see `guard`), and anything about containers (see `containers`).
"""
