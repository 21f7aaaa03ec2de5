"""The HTTP API of MONAI Label over isoline's own jobs, for the clients that already speak it."""
