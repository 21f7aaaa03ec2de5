"""nnInteractive through its own package."""
