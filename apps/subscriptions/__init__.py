"""Who outside is told what happens in a workspace: subscriptions, their messages, and the sending.

What happens is noted in the transaction in which it happens; the scheduler sends it afterwards.
"""
