"""isoline: AI contours that stream into the viewer while the rest is still being computed."""

__version__ = "0.1.0"
