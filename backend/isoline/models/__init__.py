"""One file a model: a spec and infer()."""
