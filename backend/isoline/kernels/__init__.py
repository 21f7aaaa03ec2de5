"""The compiled inner loops, each a pure function on arrays."""
