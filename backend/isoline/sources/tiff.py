"""TIFF read tile by tile with tifffile: brightfield, fluorescence, OME-TIFF; 8 and 16 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoline.errors import Unreadable
from isoline.geometry.grid import Box
from isoline.sources import bit_depth
from isoline.sources.fingerprint import fingerprint, of_part
from isoline.sources.pixel_size import NO_SPACING
from isoline.sources.pyramid import RGB, TileCache, paste, white
from isoline.sources.source import ImageInfo, Remote, Source
from isoline.sources.tiff_file import TiffFile, TiffPage
from isoline.sources.tiff_pyramid import pyramid_of, separate, stack_of
from isoline.sources.tiff_series import Contents


class TiffSource(Source):
    """A TIFF through tifffile: one of the images in the file, with its pyramid."""

    name = "tiff"

    def __init__(self, path: Path, series: int | str | None = None) -> None:
        """Open the image `series`, by name or index; by default the largest that is no label.

        Raises Unreadable, or NotSupported for an image that the file does not contain.
        """
        self._file = TiffFile(path)
        self._cache = TileCache()
        self._closed = False
        self._bits: int | None = None
        self._is_measured = False
        """Whether its depth is being measured, in which missing tiles do not count."""
        try:
            images, reduced = separate(self._file.series)
            contents = Contents(self._file.parsed, images)
            taken = contents.choose(series, path.name)
            self._stack = stack_of(images[taken], path.name)
            self._pyramid = pyramid_of(self._file, images[taken], reduced)
            self.info = self._describe(path, contents, taken)
            if self.info.is_rgb and self.info.dtype != np.uint8:
                self._reduce_depth(contents.significant_bits(taken))
            if series is not None and taken != contents.choose(None, path.name):
                own = of_part(self.info.fingerprint, str(taken))
                self.info = replace(self.info, fingerprint=own)
        except BaseException:
            self._file.close()
            raise

    @classmethod
    def open(cls, path: Path) -> TiffSource:
        return cls(path)

    def _describe(self, path: Path, contents: Contents, taken: int) -> ImageInfo:
        stack, pyramid = self._stack, self._pyramid
        first = pyramid.pages[0][0]
        if any(len(pages) != stack.pages for pages in pyramid.pages):
            raise Unreadable(f"{path.name} does not store one plane per TIFF page")
        colour = first.colours.is_rgb
        if colour and stack.length("C") > 1:
            raise Unreadable(f"{path.name} has {stack.length('C')} colour images in one")
        channels = stack.length("C") * (1 if colour else first.samples)
        spacing = contents.spacing(taken)
        return ImageInfo(
            reader=self.name,
            fingerprint=fingerprint(path),
            kind="slide" if colour and (len(pyramid.levels) > 1 or first.is_tiled) else "image",
            levels=pyramid.levels,
            spacing_um=spacing,
            channels=RGB if colour else contents.channel_names(taken, channels),
            dtype=first.dtype,
            background=white(first.dtype) if colour else (0,) * channels,
            z_planes=stack.length("Z"),
            problems=(
                *contents.problems(taken),
                *stack.problems(),
                *first.colours.problems,
                *_page_problems([page for pages in pyramid.pages for page in pages]),
                *self._size_problems(),
                *pyramid.problems,
                *contents.spacing_problems(taken),
                *(() if spacing else (NO_SPACING,)),
            ),
            series=contents.images if len(contents.images) > 1 else (),
            taken=taken,
        )

    def _size_problems(self) -> Iterator[str]:
        end = max(page.end for pages in self._pyramid.pages for page in pages)
        if end > self._file.bytes:
            yield (
                f"the file is incomplete: it has {self._file.bytes} of at least {end} bytes, and a "
                "part of the image cannot be read; copy it again"
            )

    def _reduce_depth(self, stated: int | None) -> None:
        """Read colours of 16 bits as 8, from now on."""
        self._is_measured = True
        found = bit_depth.bits_in_use(bit_depth.samples_of(self))
        self._is_measured = False
        # writers that state 16 bits mean the size of a pixel
        self._bits = found if stated in (None, bit_depth.MOST_BITS) else max(found, stated)
        self._cache.clear()
        self.info = replace(
            self.info,
            dtype=np.dtype(np.uint8),
            background=white(np.dtype(np.uint8)),
            problems=(*self.info.problems, bit_depth.depth_problem(self._bits)),
        )

    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        if self._closed:
            raise ValueError("read from a closed image")
        stack = self._stack
        planes = [self._read(level, stack.page(c, z), box) for c in range(stack.length("C"))]
        return np.moveaxis(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2), 2, 0)

    def _read(self, level: int, index: int, box: Box) -> NDArray[np.generic]:
        """Return the pixels (y, x, samples) of one page."""
        page = self._pyramid.pages[level][index]
        out = np.empty((box.height, box.width, page.samples), self.info.dtype)

        def decode(column: int, row: int) -> NDArray[np.generic]:
            if self.info.is_rgb and not page.has_tile(column, row) and not self._is_measured:
                # TIFF 6.0 does not allow missing tiles; scanners leave out those of empty glass
                return np.full((*page.tile_size[::-1], 3), self.info.background, self.info.dtype)
            tile = page.tile(column, row)
            return bit_depth.to_8_bits(tile, self._bits) if self._bits else tile

        def tile(column: int, row: int) -> NDArray[np.generic]:
            return self._cache.get((level, index, column, row), lambda: decode(column, row))

        paste(out, box, page.tile_size, tile)
        return out

    def close(self) -> None:
        self._closed = True
        self._cache.clear()
        self._file.close()


@dataclass(frozen=True)
class TiffSeries(Remote):
    """One of several images in a local file."""

    path: Path
    series: str | int

    @property
    def name(self) -> str:
        return self.path.name

    def open(self) -> TiffSource:
        return TiffSource(self.path, self.series)


def _page_problems(pages: Sequence[TiffPage]) -> Iterator[str]:
    """Yield a warning for what pages have that changes how they look."""
    turned = {page.orientation for page in pages} - {1}
    if turned:
        yield (
            f"the file says that it is turned or mirrored (orientation {max(turned)}); pixels are "
            "read as stored, and coordinates count from the first one stored"
        )
    missing = sum(page.missing_tiles for page in pages)
    if missing:
        blank = "white" if pages[0].colours.is_rgb else "empty"
        yield f"{missing} tiles are not stored in the file; they are read as {blank}"
