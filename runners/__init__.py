"""Run one step: on this host, in a container or in a pod.

Belongs here: processes, images, pods, lines, exit codes. Does not belong here: the database, the
queue, templates, the origin of the step. A runner reports; the worker writes.

Rooms, each importing only from those after it: `cleanup` (the program that cleans up after a dead
worker); `catalog` (which runner runs a step); `host`, `docker` and `pod` (the three places,
independent of each other); `containers` (what docker and pod share); `guard`; `lines`; `base`.
"""
