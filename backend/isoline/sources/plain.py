"""Small images held entirely in memory: PNG, JPEG and flat TIFF."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from isoline.errors import TooLarge, Unreadable
from isoline.geometry.grid import XY, Box
from isoline.sources import bit_depth
from isoline.sources.fingerprint import fingerprint
from isoline.sources.pixel_size import NO_SPACING, believable
from isoline.sources.pyramid import RGB, white
from isoline.sources.source import ImageInfo, Level, Source
from isoline.sources.tiff_colours import over_white

FORMATS = ("PNG", "JPEG", "TIFF")
MAX_PIXELS = 100_000_000
"""300 MB of RGB; a file that claims more is rejected before a pixel is decoded."""

_ORIENTATION, _RESOLUTION_UNIT, _X_RESOLUTION, _Y_RESOLUTION = 274, 296, 282, 283
_GREY_MODES = {"1": "L", "L": "L", "I;16": "I;16", "I;16B": "I;16B"}


class PlainSource(Source):
    """A plain image: one level, 8-bit grey or RGB, or 16-bit grey."""

    name = "plain"

    def __init__(self, path: Path) -> None:
        try:
            with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
                warnings.simplefilter("ignore", UserWarning)  # Pillow guesses at damaged tags
                pixels, problems = _decode(image, path)
                spacing = _spacing(image)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise Unreadable(f"{path.name}: {error}") from error
        except Image.DecompressionBombError as error:
            # Pillow's own limit, which other libraries in this process may have lifted
            raise TooLarge(
                f"{path.name} is too large for an untiled image: {error}",
                "convert it to a tiled TIFF",
            ) from error
        self._pixels: NDArray[np.generic] | None = pixels
        height, width, samples = pixels.shape
        self.info = ImageInfo(
            reader=self.name,
            fingerprint=fingerprint(path),
            kind="image",
            levels=(Level((width, height), XY(1.0, 1.0)),),
            spacing_um=spacing,
            channels=RGB if samples == 3 else ("grey",),
            dtype=pixels.dtype,
            background=white(pixels.dtype) if samples == 3 else (0,),
            problems=(*problems, *(() if spacing else (NO_SPACING,))),
        )

    @classmethod
    def open(cls, path: Path) -> PlainSource:
        return cls(path)

    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        if self._pixels is None:
            raise ValueError("read from a closed image")
        rows, columns = Box(0, 0, *self.info.size).slices_of(box)
        return np.moveaxis(self._pixels[rows, columns].copy(), 2, 0)

    def close(self) -> None:
        self._pixels = None


def _decode(image: Image.Image, path: Path) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Return (y, x, 1 or 3) pixels and warnings for the user."""
    name = path.name
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"{name} is {width} x {height} pixels; an untiled image may have at most "
            f"{MAX_PIXELS // 1_000_000} million",
            "convert it to a tiled TIFF",
        )
    problems = []
    if image.getexif().get(_ORIENTATION, 1) != 1:
        problems.append("the EXIF orientation is ignored; pixels are read as stored")
    if getattr(image, "n_frames", 1) > 1:
        if image.format == "TIFF":
            raise Unreadable(f"{name} contains several images: planes, channels or levels")
        problems.append("the file contains several images; only the first is read")
    if image.mode in _GREY_MODES:
        grey = np.asarray(image.convert(_GREY_MODES[image.mode]))
        return grey.astype(grey.dtype.newbyteorder("="))[..., None], tuple(problems)
    if _is_deep_png(path):
        pixels, problem = _deep_colours(path)
        return pixels, (*problems, problem)
    if image.mode in ("I", "F"):
        raise Unreadable(f"{name} has 32-bit pixels; isoline reads 8-bit and 16-bit images")
    return np.asarray(_over_white(image)), tuple(problems)


def _is_deep_png(path: Path) -> bool:
    """Return whether it is a PNG with colours or opacity of 16 bits, which Pillow cuts off."""
    with path.open("rb") as file:
        head = file.read(26)
    # the header chunk comes first: bits per sample, colour type (PNG specification, 11.2.2)
    return head.startswith(b"\x89PNG") and head[24:25] == b"\x10" and head[25] in (2, 4, 6)


def _deep_colours(path: Path) -> tuple[NDArray[np.uint8], str]:
    """Return (y, x, 1 or 3) pixels of a PNG of 16 bits, and what was done to them."""
    import imagecodecs  # hardly any picture needs it

    stored = imagecodecs.png_decode(path.read_bytes())
    colours = 3 if stored.shape[2] >= 3 else 1
    bits = bit_depth.bits_in_use(stored[..., :colours])
    pixels = bit_depth.to_8_bits(stored[..., :colours], bits)
    if stored.shape[2] > colours:
        opacity = (stored[..., colours:] >> 8).astype(np.uint8)
        layers = np.concatenate([pixels, opacity], axis=2)
        pixels = over_white(colours, 255, np.dtype(np.uint8), False, layers)
    return pixels, bit_depth.depth_problem(bits)


def _over_white(image: Image.Image) -> Image.Image:
    """Return an RGB image, composited over white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = Image.new("RGBA", image.size, "white")
    layered.alpha_composite(image.convert("RGBA"))
    return layered.convert("RGB")


def _spacing(image: Image.Image) -> XY | None:
    """Return the pixel size if the file records one with its unit, in PNG pHYs or TIFF tags.

    Pillow converts pHYs to dots per inch, and drops it if its unit is not the metre. The density
    in a JPEG is for printing and never that of the specimen.
    """
    if image.format == "PNG" and "dpi" in image.info:
        x, y = image.info["dpi"]
        return believable(_per(25_400.0, float(x)), _per(25_400.0, float(y)))
    if image.format == "TIFF":
        tags = image.getexif()
        unit_um = {2: 25_400.0, 3: 10_000.0}.get(tags.get(_RESOLUTION_UNIT, 1))
        if unit_um is None:
            return None
        x, y = (float(tags.get(tag, 0)) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
        return believable(_per(unit_um, x), _per(unit_um, y))
    return None


def _per(unit_um: float, pixels: float) -> float | None:
    return unit_um / pixels if pixels > 0 else None
