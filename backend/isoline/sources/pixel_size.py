"""Pixel sizes from file metadata; implausible values are ignored."""

from __future__ import annotations

from isoline.geometry.grid import XY

FINEST_UM, COARSEST_UM = 0.05, 20.0
"""Slide scanners and microscope cameras are within these bounds; values such as 72 dpi are not."""
NO_SPACING = "the file does not record the size of a pixel; pass spacing_um, in micrometres"

_IN_MICROMETRES = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "nm": 1e-3,
    "in": 25_400.0,
    "inch": 25_400.0,
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", "micrometre"), 1.0),
}


def believable(x_um: float | None, y_um: float | None) -> XY | None:
    """Return the spacing if both numbers are given and plausible for a microscope."""
    if x_um is None or y_um is None:
        return None
    if not (FINEST_UM <= x_um <= COARSEST_UM and FINEST_UM <= y_um <= COARSEST_UM):
        return None
    return XY(x_um, y_um)


def micrometres(number: str | None, unit: str | None) -> float | None:
    """Parse a length such as ("0.25", "µm"); None if either is missing or invalid."""
    try:
        return float(number or "") * _IN_MICROMETRES[unit or "µm"]
    except (ValueError, KeyError):
        return None
