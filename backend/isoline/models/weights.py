"""Finding models' weights and checking them against the sha256 pinned in the spec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from isoline import extras
from isoline.errors import WeightsMissing
from isoline.models import downloads
from isoline.models.base import ModelSpec


def weight_files(spec: ModelSpec, directory: Path) -> Mapping[str, Path]:
    """Return the paths of `spec.weights` and `spec.own_files` by file name.

    Raises WeightsMissing if a file is missing or altered, stating the command that fetches it or
    where to get it, and Broken if a package that the model needs is not installed.
    """
    extras.require(spec.packages, spec.name)
    files = {}
    for weights in spec.weights:
        path = downloads.find(weights, directory)
        if path is None:
            raise WeightsMissing(
                f"the weights of {spec.name} are not on this machine",
                f"run `isoline models pull {spec.name}` on the server",
            )
        files[weights.file] = path
    for own in spec.own_files:
        path = directory / own.file
        if not path.exists():
            raise WeightsMissing(
                f"{spec.name} needs {own.file} in the weights directory", own.source
            )
        if own.sha256 and downloads.find(own, directory) is None:
            raise WeightsMissing(
                f"{own.file} in the weights directory is not the file that {spec.name} expects:"
                " its sha256 differs",
                own.source,
            )
        files[own.file] = path
    return files


def pull(spec: ModelSpec, directory: Path) -> Mapping[str, Path]:
    """Fetch the files of `spec.weights` that are missing, and return all paths by file name."""
    for weights in spec.weights:
        downloads.fetch(weights, directory)
    return weight_files(spec, directory)
