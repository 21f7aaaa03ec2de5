"""Labels as a NRRD file: https://teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import gzip

import numpy as np
from numpy.typing import NDArray

from isoline.geometry.volume_grid import VolumeGrid


def encode(labels: NDArray[np.integer], grid: VolumeGrid | None = None, *, compress: bool) -> bytes:
    """Return a file of (y, x) pixels, or of (k, j, i) voxels and where `grid` has them.

    The same labels give the same bytes: no time, no name.
    """
    # the fastest axis comes first; NumPy and NRRD call whole numbers the same
    fields = {
        "type": labels.dtype.name,
        "dimension": labels.ndim,
        "space": None if grid is None else "left-posterior-superior",
        "sizes": " ".join(map(str, reversed(labels.shape))),
        "space directions": None if grid is None else _directions(grid),
        "kinds": " ".join(["domain"] * labels.ndim),
        "endian": "little",
        "encoding": "gzip" if compress else "raw",
        "space origin": None if grid is None else _vector(grid.origin_mm),
    }
    lines = [f"{name}: {value}\n" for name, value in fields.items() if value is not None]
    header = "".join(["NRRD0004\n", *lines, "\n"]).encode("ascii")
    body = labels.astype(labels.dtype.newbyteorder("<"), copy=False).tobytes()
    return header + (gzip.compress(body, 1, mtime=0) if compress else body)


def _directions(grid: VolumeGrid) -> str:
    return " ".join(map(_vector, (grid.step_i_mm, grid.step_j_mm, grid.step_k_mm)))


def _vector(xyz: tuple[float, float, float]) -> str:
    return "({})".format(",".join(f"{float(value):.17g}" for value in xyz))
