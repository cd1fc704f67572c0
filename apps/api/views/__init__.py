"""One view a route: reads the request, calls one service or one query, answers."""
