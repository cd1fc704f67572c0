"""When a workspace is read, and by whom: by a process of its own with limits of time and memory,
one at a time for each workspace. What a source does to its reader harms nobody else.

What reading means is not here: `apps.workspaces.services`.
"""
