"""Export formats: one module per dialect or file format."""
