"""The control plane: what is true (models), who may change it (services), who sees it (admin, API).

Belongs here: Django apps, one room each. Does not belong here: running a step (runners), the worker
process (workers).
"""
