"""Do one step somewhere: on this host, in a container, in a pod.

Belongs here: processes, images, pods, lines, exit codes. Does not belong here: the database, the
queue, templates, who asked for the step. A runner reports; the worker writes.

Rooms, each importing only from those after it: `cleanup` (the program that cleans up for a dead
worker); `catalog` (which runner does a step); `host`, `docker` and `pod` (the three places, none of
which knows another); `containers` (what docker and pod share); `guard`; `lines`; `base`.
"""
