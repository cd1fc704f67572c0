"""Users, groups, API tokens, workspace grants: who somebody is and what they may see or do."""
