"""Libraries of workspaces: which commit each is pinned to, its files, and their place in the tree.

What a library may define is not here: `engine.spec.libraries`. `attaching`, `lock` and `fetching`
need no Django: the client validates with them.
"""
