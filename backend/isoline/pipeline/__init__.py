"""Turning requests into events: one module for each kind of work."""
