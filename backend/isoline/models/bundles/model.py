"""A MONAI bundle as a volume model: windows row by row, slices as soon as they are final."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Label
from isoline.errors import Broken
from isoline.geometry.reorient import Orientation
from isoline.models.base import ModelSpec, Voxels
from isoline.models.bundles import code
from isoline.models.bundles.files import Bundle
from isoline.models.bundles.network import Network
from isoline.models.bundles.recipe import Recipe, check_input, class_names, read_recipe
from isoline.models.bundles.sliding import Sliding
from isoline.models.bundles.transforms import Input
from isoline.models.volumetric import Scan, Step, VolumeModel

MOST_LABELS = 255
_BACKGROUND = ("background", "bg", "other")


class BundleModel(VolumeModel):
    """A model from one configured bundle; `bundle_model` creates its class."""

    bundle: ClassVar[Bundle]
    labels: ClassVar[NDArray[np.uint8]]
    """(classes,) the label of each output channel, 0 for the background."""

    def __init__(self, weights: Mapping[str, Path], device: str) -> None:
        """Read the recipe and load the network. Raises Broken."""
        self._recipe = recipe_of(self.bundle)
        self._network = Network(self.bundle, device, self._recipe.mixed_precision)
        self._batch = self._recipe.batch if device.startswith("cuda") else 1

    def segment(self, scan: Scan) -> Iterator[Step]:
        self._network.use_one_core()
        orientation = Orientation.towards(self._recipe.sides, scan.grid)
        given = Input.of(scan, orientation)
        for step in self._recipe.steps:
            yield Step(0.0)
            given = given.after(step, orientation)
        yield Step(0.0)
        sliding = Sliding(
            self._network, self._batch, self._recipe, self.labels, scan, orientation, given
        )
        yield from sliding.steps()


@lru_cache(maxsize=64)
def bundle_model(
    name: str, bundle: Bundle, _signature: tuple[tuple[str, int, int], ...]
) -> type[BundleModel]:
    """Return the model class for `bundle`, called `name`. Raises Broken if the bundle is unusable.

    The class is rebuilt when the bundle's files change: see `Bundle.signature`.
    """
    metadata = bundle.metadata()
    check_input(metadata)
    if not bundle.run_code:
        recipe_of(bundle)  # so that an unusable recipe is reported when models are listed
    classes = class_names(metadata)
    shown = [n for n, each in enumerate(classes) if n > 0 or not _is_background(each, classes)]
    if len(shown) > MOST_LABELS:
        raise Broken(
            f"{name} has {len(shown)} classes, and at most {MOST_LABELS} can be shown",
            "choose a bundle with fewer classes",
        )
    labels = np.zeros(len(classes), np.uint8)
    labels[shown] = np.arange(1, len(shown) + 1)
    spec = ModelSpec(
        name=name,
        title=str(metadata.get("name") or name),
        description=str(metadata.get("description") or metadata.get("task") or "A MONAI bundle."),
        version=f"{metadata.get('version', '0')}+{bundle.stamp()}",
        labels=tuple(
            Label(classes[n].strip().capitalize(), _color(place)) for place, n in enumerate(shown)
        ),
        output=Voxels(),
        on_gpu=True,
        licence=str(metadata.get("license") or metadata.get("copyright") or "see the bundle"),
        cite=_first(metadata.get("references")),
    )
    return type("Bundle", (BundleModel,), {"spec": spec, "bundle": bundle, "labels": labels})


def recipe_of(bundle: Bundle) -> Recipe:
    """Return the recipe of `bundle`. Raises Broken."""
    inference = code.evaluated(bundle) if bundle.run_code else bundle.inference()
    return read_recipe(bundle.metadata(), inference)


def _is_background(name: str, classes: tuple[str, ...]) -> bool:
    return len(classes) > 1 and name.strip().lower() in _BACKGROUND


def _color(place: int) -> tuple[int, int, int]:
    """Return a colour distinct from those at earlier places: hues by the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb(place * 0.618034 % 1, 0.65, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _first(references: object) -> str:
    return str(references[0]) if isinstance(references, list) and references else ""
