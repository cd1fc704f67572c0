"""What time alone changes: leases, deadlines, retries that are due; and what is removed when old.

Belongs here: phases of the sweep and retention. Does not belong here: when they run (`conductor`).
"""
