"""MONAI bundles as volume models: their configuration is read as data, not executed."""
