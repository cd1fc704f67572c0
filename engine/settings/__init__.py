"""Settings: a YAML file, overridden by the environment, read into the dataclasses that declare
them.

Belongs here: what the settings of server, worker and runners have in common, how values are parsed
and wrong ones refused. Does not belong here: the settings themselves (declared where they are
used), files on disk, `os.environ`.

Plain scalars mean what they mean in workspace files: `no`, `0777` and `12:30` are text, `1e3` is a
number, and nothing is converted. A value from the environment is untyped: it is parsed as the type
of its setting.
"""
