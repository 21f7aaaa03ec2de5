"""Shared plain types: requests, events and results."""
