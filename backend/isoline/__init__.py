"""isoline: AI contours that stream into the viewer while the rest is still being computed."""

from importlib.metadata import version

__version__ = version("isoline")
