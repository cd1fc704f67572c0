"""Steps in Kubernetes pods.

Belongs here: everything that speaks to an API server, and the policy for authors' manifests. Does
not belong here: what a container needs in the same way (see `containers`). This room alone imports
the Kubernetes client, and only a worker that uses pods imports the modules that do.
"""
