"""OAuth for agents: a person lets a program in at /mcp, in the browser, without an API key.

Belongs here: what the library django-allauth leaves to us (`views`: the addresses and their limits,
`provider`: its views with our rules, `adapter`: who may register, `offer`: what we offer). Does not
belong here: the protocol, which is the library's, and what was let in (`apps.accounts.agents`).
Only `provider` and `adapter` import the library, once a request comes.
"""
