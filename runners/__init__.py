"""Do one step somewhere: on this host, in a container, in a pod.

Belongs here: processes, images, pods, lines, exit codes. Does not belong here: the database, the
queue, templates, who asked for the step. A runner tells; the worker writes.
"""
