"""Optional libraries, and the errors that are raised if they are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata

from isoline.errors import Broken


@contextmanager
def radiology() -> Iterator[None]:
    """Turn an ImportError in the block into Broken with the command that installs the library."""
    try:
        yield
    except ImportError as error:
        raise Broken(
            f"volumes need a library that is not installed: {error.name or error}",
            "run `pip install 'isoline[radiology]'`",
        ) from error


def require(packages: Iterable[str], extra: str) -> None:
    """Raise Broken, with the command that installs it, if one of `packages` is missing."""
    for package in packages:
        if not _is_installed(package):
            raise Broken(
                f"the Python package {package} is not installed",
                f"run `pip install 'isoline[{extra}]'`",
            )


@cache
def _is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True
