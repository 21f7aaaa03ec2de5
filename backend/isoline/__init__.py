"""isoline: AI contours that stream into the viewer while the rest is still being computed."""

__version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import metadata  # takes 30 times as long as everything else here

    return metadata.version("isoline")
