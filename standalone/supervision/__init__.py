"""Long-running programs as children: started, watched, restarted, ended, and never outliving the
one who started them.

What belongs here: processes and signals. What does not: what those programs are (see `embedded` and
the commands).
"""
