"""MONAI Label's HTTP API on top of isoline's jobs, for clients that already use it."""
