"""Labels as a NIfTI-1 file on the grid of the source; LPS is converted to RAS here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isoline.exports.labelmap import Segmented, check_path
from isoline.extras import radiology
from isoline.geometry.volume_grid import swap_ras


def write(result: Segmented, path: Path) -> None:
    """Write `result` to `path`, .nii or .nii.gz. Raises Malformed for another suffix."""
    with radiology():
        import nibabel
    check_path("nifti", path)
    affine = swap_ras(result.volume.grid.affine)
    image = nibabel.Nifti1Image(np.ascontiguousarray(result.labels.T), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = result.description.encode()[:79]
    nibabel.save(image, path)
