"""Steps in Docker containers.

Belongs here: everything that speaks to a Docker engine. Does not belong here: what a pod needs in
the same way (see `containers`). This room alone imports the Docker SDK, and only a worker that uses
Docker imports the room.
"""
