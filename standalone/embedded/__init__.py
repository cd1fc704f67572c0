"""PostgreSQL and Valkey out of two wheels, for `up`, `run` and the tests. Production never imports
this.

The wheels supply programs only; who runs them, where, with which password and until when is decided
here.
"""
