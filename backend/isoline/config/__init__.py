"""The settings in `isoline.toml`, and the data directory."""
