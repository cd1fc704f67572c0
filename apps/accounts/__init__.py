"""Users, groups, API keys and workspace grants."""
