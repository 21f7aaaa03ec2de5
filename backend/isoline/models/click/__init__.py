"""`click`: what a user points at, found without weights."""
