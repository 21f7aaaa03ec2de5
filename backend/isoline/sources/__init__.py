"""Image sources: one module per reader."""
