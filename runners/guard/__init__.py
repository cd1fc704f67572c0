"""The guard: a small process that ends what its owner started, when the owner is gone or silent.

Belongs here: the program of the guard, the owner's side of it, and how processes are found and
ended by their marks. Does not belong here: what those processes are (see `host`), and the clients
of Docker and Kubernetes (see `cleanup`, which the guard starts only when it must). The guard program
imports `strays` without site-packages, so both stay within a few modules of the standard library.
"""
