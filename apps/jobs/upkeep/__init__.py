"""What only time changes: leases, deadlines, due retries, and the removal of old rows.

Belongs here: phases of the sweep and retention. Does not belong here: their schedule (`conductor`).
"""
