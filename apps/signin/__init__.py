"""How people prove who they are, beyond a password: single sign-on, a second factor, passkeys, and
a new password by mail.

Belongs here: the pages of signing in, what identity providers say about a person and what follows
from it, codes and passkeys. Does not belong here: accounts, passwords, tokens and throttles
(`apps.accounts`), and the protocols, which are django-allauth's. Only server and scheduler have
that library: modules that import it are imported by addresses and pages.
"""
