"""nnInteractive, run through its own package."""
