"""The audit log: who did what, from where, before and after. Services write to it in the
transaction of the act; nobody changes or deletes what is there, but for entries that are older than
the operator wants to keep."""
