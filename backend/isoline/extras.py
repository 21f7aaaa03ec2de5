"""Libraries that only some installations have, and what to say where they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from isoline.errors import Broken


@contextmanager
def radiology() -> Iterator[None]:
    """Turn an ImportError within into Broken that says how to install what is missing."""
    try:
        yield
    except ImportError as error:
        raise Broken(
            f"volumes need a library that is not installed: {error.name or error}",
            "run `pip install 'isoline[radiology]'`",
        ) from error
