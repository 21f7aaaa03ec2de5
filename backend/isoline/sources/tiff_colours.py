"""Colour models of TIFF (TIFF 6.0, sections 4 to 8, 16, 18, 20, 21): what becomes grey or RGB.

Converted: grey where zero is white, palettes, CMYK, uncompressed YCbCr, and transparency, which is
composited over white. Refused: what has no single meaning without a colour profile, as L*a*b*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isoline.errors import Unreadable

Samples: TypeAlias = NDArray[Any]
"""(y, x, samples), unsigned."""

_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_NAMES = {
    4: "a transparency mask",
    8: "L*a*b*",
    9: "L*a*b*",
    10: "L*a*b*",
    32803: "raw sensor data",
}
_JPEG = (7, 33007)
"""Compressions whose decoder turns YCbCr into RGB."""
_CODECS = (6, 22610, 33003, 33004, 33005, 34712, 34892, 34933, 34934, 50001, 50002)
"""Other compressions with colour models of their own."""
_ASSOCIATED, _UNASSOCIATED = 1, 2
_REMEDY = "convert it to 8-bit RGB"


@dataclass(frozen=True)
class Colours:
    """What the samples of a page mean."""

    channels: int
    is_rgb: bool
    """Whether the channels are red, green and blue."""
    dtype: np.dtype[np.generic]
    """The type of the channels."""
    convert: Callable[[Samples], Samples]
    """Turns stored samples into channels, (y, x, channels)."""
    problems: tuple[str, ...] = ()


def colours_of(key: Any, name: str) -> Colours:
    """Return the colours of `key`, a tifffile page of the file `name`.

    Raises Unreadable for types of pixels and colour models that isoline does not support.
    """
    if key.dtype not in (np.dtype("u1"), np.dtype("u2")):
        raise Unreadable(f"{name} has pixels of type {key.dtype}, not unsigned 8-bit or 16-bit")
    dtype: np.dtype[np.generic] = key.dtype.newbyteorder("=")
    model, count, bits = int(key.photometric), int(key.samplesperpixel), int(key.bitspersample)
    if model == _PALETTE and count == 1:
        table = _palette(key, name)
        return Colours(3, True, table.dtype, lambda samples: table[samples[..., 0]])
    if bits < 8:
        raise Unreadable(f"{name} has pixels of {bits} bits", _REMEDY)
    if model == _WHITE_IS_ZERO and count == 1:
        darkest = 2**bits - 1
        return Colours(1, False, dtype, lambda samples: (darkest - samples).astype(dtype))
    if model == _GREY:
        return _with_extras(key, 1, dtype)
    if model == _RGB and count >= 3:
        return _with_extras(key, 3, dtype)
    compression = int(key.compression)
    if model == _YCBCR and count == 3 and compression not in _CODECS:
        if compression in _JPEG:
            return Colours(3, True, dtype, lambda samples: samples)
        if bits == 8 and not key.is_subsampled:
            return Colours(3, True, dtype, partial(_of_ycbcr, *_ycbcr(key)))
    is_cmyk = model == _CMYK and int(key.tags.valueof("InkSet", default=1)) == 1
    if is_cmyk and count == 4 and compression not in (*_JPEG, *_CODECS):
        return Colours(3, True, dtype, partial(_of_cmyk, 2**bits - 1, dtype))
    what = _NAMES.get(model, getattr(key.photometric, "name", str(model)))
    raise Unreadable(
        f"{name} has {count} samples of {what} per pixel, compressed as "
        f"{getattr(key.compression, 'name', compression)}: neither grey nor RGB",
        _REMEDY,
    )


def _with_extras(key: Any, colours: int, dtype: np.dtype[np.generic]) -> Colours:
    """Return the colours of grey or RGB pixels that may have further samples."""
    count, brightest = int(key.samplesperpixel), 2 ** int(key.bitspersample) - 1
    extras = tuple(int(each) for each in key.extrasamples)
    if count > colours and extras[:1] in ((_ASSOCIATED,), (_UNASSOCIATED,)):
        return Colours(
            colours,
            colours == 3,
            dtype,
            partial(over_white, colours, brightest, dtype, extras[0] == _ASSOCIATED),
            ("the image has an opacity for each pixel; what is transparent is read as white",),
        )
    if colours == 1:  # any number of channels, such as those of fluorescence
        return Colours(count, False, dtype, lambda samples: samples)
    unread = f"the file does not say what the {count - 3} samples after red, green and blue are"
    return Colours(
        3,
        True,
        dtype,
        lambda samples: samples[..., :3],
        (f"{unread}; they are not read",) if count > 3 else (),
    )


def _palette(key: Any, name: str) -> NDArray[np.uint8]:
    """Return (entries, 3) the colours of a page's palette."""
    stored = key.colormap
    if stored is None or len(stored) != 3:
        raise Unreadable(f"{name} has no palette for its pixels", _REMEDY)
    table = np.asarray(stored).T
    # TIFF 6.0 counts to 65535; some writers count to 255
    eight_bit: NDArray[np.uint8] = (table >> 8 if table.max() > 255 else table).astype(np.uint8)
    return eight_bit


def over_white(
    colours: int, brightest: int, dtype: np.dtype[np.generic], associated: bool, samples: Samples
) -> Samples:
    """Return the first `colours` of the samples, composited over white by the one after them.

    `associated` colours have been multiplied by their opacity already.
    """
    alpha = samples[..., colours : colours + 1]
    if (alpha == brightest).all():
        return np.ascontiguousarray(samples[..., :colours])
    values = samples[..., :colours].astype(np.uint64)
    clear = np.uint64(brightest) - alpha
    if associated:
        return np.asarray(np.minimum(values + clear, brightest), dtype)
    mixed = values * alpha + clear * np.uint64(brightest)
    return np.asarray((mixed + np.uint64(brightest // 2)) // np.uint64(brightest), dtype)


def _of_cmyk(brightest: int, dtype: np.dtype[np.generic], samples: Samples) -> Samples:
    """Return RGB of inks without a profile: what neither an ink nor black absorbs."""
    left = np.uint64(brightest) - samples.astype(np.uint64)
    light = left[..., :3] * left[..., 3:]
    return np.asarray((light + np.uint64(brightest // 2)) // np.uint64(brightest), dtype)


def _ycbcr(key: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix from YCbCr to RGB and the zero of each sample (TIFF 6.0, section 21)."""
    red, green, blue = _rationals(key, "YCbCrCoefficients", (299, 1000, 587, 1000, 114, 1000))
    black_y, white_y, black_cb, white_cb, black_cr, white_cr = _rationals(
        key, "ReferenceBlackWhite", (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)
    )
    matrix = np.array(
        [
            [1, 0, 2 - 2 * red],
            [1, -blue * (2 - 2 * blue) / green, -red * (2 - 2 * red) / green],
            [1, 2 - 2 * blue, 0],
        ]
    )
    range_y = 255 / (white_y - black_y)
    ranges = range_y, 127 / (white_cb - black_cb), 127 / (white_cr - black_cr)
    return matrix * ranges, np.array([black_y, black_cb, black_cr])


def _of_ycbcr(matrix: NDArray[np.float64], zero: NDArray[np.float64], samples: Samples) -> Samples:
    rgb = (samples.astype(np.float64) - zero) @ matrix.T
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)


def _rationals(key: Any, tag: str, default: tuple[int, ...]) -> list[float]:
    stored = key.tags.valueof(tag, default=default)
    pairs = zip(stored[::2], stored[1::2], strict=True)
    return [numerator / denominator for numerator, denominator in pairs]
