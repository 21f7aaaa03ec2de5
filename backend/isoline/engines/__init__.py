"""Engines, which run tiles."""
