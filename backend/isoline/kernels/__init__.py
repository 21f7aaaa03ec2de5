"""The few inner loops that are compiled, each a pure function on arrays."""
