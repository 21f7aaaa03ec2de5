"""Contracts and the conformance suite, for authors of plugins and viewers."""
