"""What a worker does with one task: read, prepare, predict, outline."""
