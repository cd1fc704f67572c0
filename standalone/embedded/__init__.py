"""PostgreSQL and Valkey from two wheels, for `up`, `run` and the tests. Production never imports
this.

The wheels only supply programs; this package decides who runs them, where, with which password and
how long.
"""
