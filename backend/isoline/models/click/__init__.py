"""The model `click`: segments the object that a user points at, without weights."""
