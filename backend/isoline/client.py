"""The client, which is a distribution of its own: see `isoline_client`."""

from isoline_client import *  # noqa: F403
from isoline_client import __all__ as __all__
