"""Commands that only the client has."""
