"""One view per route: read the request, call one service or query, answer."""
