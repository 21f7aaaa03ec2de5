"""The messages between a viewer and isoline: `docs/protocol.md`, as types."""
