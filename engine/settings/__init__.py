"""Settings: a YAML file and the environment over it, read into the dataclasses that declare them.

Belongs here: what the files of server and worker and the sections of the runners have in common,
how a value is read and how a wrong one is refused. Does not: which settings there are (they are
declared where they are used), files on a disk, `os.environ`.

Plain scalars mean what they mean in workspace files: `no`, `0777` and `12:30` are text, `1e3` is a
number, and nothing is converted. A value from the environment has no type of its own: it is read
as the type that its setting wants.
"""
