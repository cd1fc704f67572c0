"""Figures: Stroem, the floor (the same shell, nothing else) and bare Celery, interleaved in one
run.

`python -m benchmarks` (`make bench`) prints a table and writes it, a plot and the raw figures to
`benchmarks/results/`.
"""
