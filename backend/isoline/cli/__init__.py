"""The command `isoline`."""
