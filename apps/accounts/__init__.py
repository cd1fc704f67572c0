"""Users, groups, API keys and workspace grants: who may sign in and what they may do."""
