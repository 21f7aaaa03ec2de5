"""The size of a pixel, out of what files say about it; nothing is believed that can't be so."""

from __future__ import annotations

from isoline.geometry.grid import XY

FINEST_UM, COARSEST_UM = 0.05, 20.0
"""No slide scanner or camera on a microscope is outside; 72 dpi and its kin are."""
NO_SPACING = "the file does not say how large a pixel is; pass the spacing in micrometres"

_IN_MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3}


def believable(x_um: float | None, y_um: float | None) -> XY | None:
    """Return the spacing when both numbers are there and a microscope could have made them."""
    if x_um is None or y_um is None:
        return None
    if not (FINEST_UM <= x_um <= COARSEST_UM and FINEST_UM <= y_um <= COARSEST_UM):
        return None
    return XY(x_um, y_um)


def micrometres(number: str | None, unit: str | None) -> float | None:
    """Return a length such as ("0.25", "µm"); None where either is missing or strange."""
    try:
        return float(number or "") * _IN_MICROMETRES[unit or "µm"]
    except (ValueError, KeyError):
        return None
