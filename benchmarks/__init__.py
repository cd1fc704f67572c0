"""Compares Stroem with the floor (only the same shell) and bare Celery, interleaved in one run.

`python -m benchmarks` (`make bench`) prints a table and writes it, with a plot and the raw figures,
to `benchmarks/results/`.
"""
