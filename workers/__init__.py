"""The worker process: takes steps from the ledger, has a runner do them, reports what became of
them.

What belongs here: slots, bells, rendering an order, workspace trees, log batches, leases. What does
not: how a step is done (`runners`), what follows from its end (`apps.jobs`, entered through modules
named `ledger` only), and what reads the command line (`stroem_project`).
"""
