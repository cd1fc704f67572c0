"""Workers: presence and offers."""
