"""The models: each has a spec and an inference method."""
