"""Long-running programs as children: started, watched, restarted, stopped, and never outliving
their parent.

What belongs here: processes and signals. What does not: what those programs are (see `embedded` and
the commands).
"""
