"""The worker process: claims steps from the ledger, hands them to a runner, reports the outcome.

What belongs here: slots, bells, rendering an order, working trees, log batches, leases. What does
not: how a step is carried out (`runners`), what follows from its end (`apps.jobs`, entered through
modules named `ledger` only), and the command line (`stroem_project`).
"""
