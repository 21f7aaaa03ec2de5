"""Settings: what `isoline.toml` says, and where data is kept."""
