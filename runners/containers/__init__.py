"""What the Docker runner and the pod runner share.

Belongs here: the script that starts a step inside a container, limits on memory and CPU, how an
attempt on another machine is followed and how it ended. Does not belong here: anything of the
Docker or Kubernetes API; neither client may be imported here.
"""
