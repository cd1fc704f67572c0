"""Log lines of jobs, once they are stored: read with cursors that miss nothing, searched, moved.

Belongs here: cursors and search. Does not belong here: storing lines, which a claim's fence guards
(`transitions`), and the format of pages and responses.
"""
