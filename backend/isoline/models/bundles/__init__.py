"""MONAI bundles as models of volumes: their facts are read, their configuration is not run."""
