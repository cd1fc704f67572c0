"""The guard: a small process that ends what its owner started once the owner is gone or silent.

Belongs here: the guard's program, the owner's side of it, how processes are found and ended by
their marks, and the cgroups and orphans by which a step's processes are known. Does not belong
here: what those processes do (see `host`), and the Docker and Kubernetes clients (see `cleanup`,
which the guard starts only when needed). The guard program imports `strays` without site-packages,
so both stay within a few modules of the standard library.
"""
