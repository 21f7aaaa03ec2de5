"""From a request to events: one file for each kind of work."""
