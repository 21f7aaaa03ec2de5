"""The images in one TIFF, their names and pixel sizes: from OME-XML, ImageJ, Aperio or the tags."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from isoline.errors import NotSupported
from isoline.geometry.grid import XY
from isoline.sources.pixel_size import believable, micrometres
from isoline.sources.source import ImageInFile

_ACCESSORY = re.compile(r"\b(label|macro|thumbnail|overview|preview|barcode)", re.IGNORECASE)
"""Names of pictures that a scanner stores beside the scan."""
_SAME = 0.01
"""Pixel sizes that differ by a smaller share are the same."""


class Contents:
    """The images in a TIFF, and what its metadata say of each."""

    def __init__(self, parsed: Any, series: Sequence[Any]) -> None:
        """Describe `series`, the tifffile series of the open file `parsed`."""
        self._parsed = parsed
        self._series = series
        self._ome = _ome_images(parsed)
        self.images = tuple(
            ImageInFile(self._name(index), _size(part)) for index, part in enumerate(series)
        )

    def choose(self, wanted: int | str | None, file: str) -> int:
        """Return the index of the image called `wanted`, or with that index.

        By default it is the largest that is no label, macro or thumbnail. Raises NotSupported.
        """
        names = [image.name.casefold() for image in self.images]
        if isinstance(wanted, str) and wanted.casefold() in names:
            return names.index(wanted.casefold())
        if wanted is not None and str(wanted).isdecimal() and int(wanted) < len(names):
            return int(wanted)
        if wanted is not None:
            raise NotSupported(
                f"{file} has no image {wanted!r}", f"it has {self.listed()}; count from 0"
            )
        scans = [
            index for index, image in enumerate(self.images) if not _ACCESSORY.search(image.name)
        ]
        return max(scans or range(len(names)), key=lambda index: _area(self.images[index]))

    def problems(self, taken: int) -> tuple[str, ...]:
        """Return a warning if the file has several images, of which `taken` is read."""
        if len(self.images) == 1:
            return ()
        return (
            f"the file contains {len(self.images)} images: {self.listed()}; {taken} is read, "
            "another can be chosen with series",
        )

    def listed(self) -> str:
        return ", ".join(
            f"{index}{f' ({image.name})' if image.name else ''}: {image.size[0]} x {image.size[1]}"
            for index, image in enumerate(self.images)
        )

    def channel_names(self, index: int, count: int) -> tuple[str, ...]:
        """Return the channel names of an image, made unique; numbered from 1 if it has none."""
        ome = self._pixels(index)
        found = (
            [] if ome is None else [each.get("Name") or "" for each in _children(ome, "Channel")]
        )
        return unique_names(found if len(found) == count else [""] * count)

    def significant_bits(self, index: int) -> int | None:
        """Return how many bits of a sample the file says to be in use, None if it does not."""
        ome = self._pixels(index)
        stated = None if ome is None else ome.get("SignificantBits")
        if stated is None:
            brightest = self._page(index).tags.valueof("MaxSampleValue")
            first = brightest[0] if isinstance(brightest, tuple) else brightest
            stated = None if not first else str(int(first).bit_length())
        return int(stated) if stated is not None and stated.isdecimal() else None

    def spacing(self, index: int) -> XY | None:
        """Return the pixel size of an image in micrometres, None if the file does not record it."""
        return self._described_spacing(index) or resolution_spacing(self._page(index))

    def spacing_problems(self, index: int) -> tuple[str, ...]:
        """Return a warning if the metadata and the resolution tags contradict each other."""
        said, tags = self._described_spacing(index), resolution_spacing(self._page(index))
        if said is None or tags is None or abs(tags.x / said.x - 1) <= _SAME:
            return ()
        return (
            f"the metadata state {said.x:.4g} um per pixel, which is used, and the resolution tags "
            f"{tags.x:.4g}",
        )

    def _described_spacing(self, index: int) -> XY | None:
        ome, page = self._pixels(index), self._page(index)
        if ome is not None:
            return believable(
                micrometres(ome.get("PhysicalSizeX"), ome.get("PhysicalSizeXUnit")),
                micrometres(ome.get("PhysicalSizeY"), ome.get("PhysicalSizeYUnit")),
            )
        if self._parsed.is_svs:
            stated = re.search(r"\bMPP *= *([0-9.]+)", page.description)
            mpp = micrometres(stated[1], "um") if stated else None
            return believable(mpp, mpp)
        if self._parsed.is_imagej:
            return _imagej_spacing(self._parsed.imagej_metadata or {}, page)
        return None

    def _page(self, index: int) -> Any:
        return self._series[index].keyframe

    def _name(self, index: int) -> str:
        part = self._series[index]
        description = part.keyframe.description.strip()
        said = description if len(description) <= 40 and description.isprintable() else ""
        name = str(part.name or "") or (said if _ACCESSORY.match(said) else "")
        return name[:80]

    def _pixels(self, index: int) -> ElementTree.Element | None:
        """Return the Pixels element of the OME-XML that describes an image.

        tifffile leaves out images that it cannot read, so the size must agree too.
        """
        if self._series[index].kind != "ome":
            return self._ome[0][1] if len(self._ome) == 1 and len(self._series) == 1 else None
        size = _size(self._series[index])
        name = str(self._series[index].name or "")
        fitting = [
            (number, pixels)
            for number, (called, pixels) in enumerate(self._ome)
            if (pixels.get("SizeX"), pixels.get("SizeY")) == (str(size[0]), str(size[1]))
            and (called or "") in (name, "")
        ]
        exact = (pixels for number, pixels in fitting if number == index)
        return next(exact, fitting[0][1] if fitting else None)


def unique_names(given: Sequence[str]) -> tuple[str, ...]:
    """Return the names, with "channel n" for empty ones and a number appended to repeated ones."""
    names: list[str] = []
    for number, name in enumerate(given, 1):
        wanted = name.strip() or f"channel {number}"
        names.append(f"{wanted} {number}" if wanted in names else wanted)
    return tuple(names)


def resolution_spacing(page: Any) -> XY | None:
    """Return the pixel size from the resolution tags of a tifffile page (TIFF 6.0, page 38)."""
    unit_um = {2: 25_400.0, 3: 10_000.0}.get(int(page.tags.valueof("ResolutionUnit", default=1)))
    return None if unit_um is None else _per_unit(page, unit_um)


def _imagej_spacing(metadata: dict[str, Any], page: Any) -> XY | None:
    """Return the pixel size of an ImageJ file: its tags count pixels per the unit in its text."""
    unit = str(metadata.get("unit", "")).replace("\\u00B5", "µ").strip().strip('"')
    one = micrometres("1", unit) if unit else None
    return None if one is None else _per_unit(page, one)


def _per_unit(page: Any, unit_um: float) -> XY | None:
    x, y = (page.tags.valueof(f"{axis}Resolution", default=(0, 1)) for axis in "XY")
    if not (x[0] and x[1] and y[0] and y[1]):
        return None
    return believable(unit_um * x[1] / x[0], unit_um * y[1] / y[0])


def _ome_images(parsed: Any) -> list[tuple[str | None, ElementTree.Element]]:
    """Return the name and the Pixels element of each image in the file's OME-XML."""
    if not parsed.is_ome:
        return []
    try:
        root = ElementTree.fromstring(parsed.ome_metadata)
    except (ElementTree.ParseError, TypeError):
        return []
    return [
        (image.get("Name"), pixels)
        for image in _children(root, "Image")
        for pixels in _children(image, "Pixels")[:1]
    ]


def _children(element: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    # files of before 2005 have no namespace
    return [child for child in element if child.tag.rpartition("}")[2] == tag]


def _size(part: Any) -> tuple[int, int]:
    key = part.keyframe
    return int(key.imagewidth), int(key.imagelength)


def _area(image: ImageInFile) -> int:
    return image.size[0] * image.size[1]
