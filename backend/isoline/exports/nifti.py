"""Labels as a NIfTI-1 file on the grid of the source; LPS is converted to RAS here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isoline.exports.labelmap import Segmented, check_path
from isoline.extras import radiology
from isoline.geometry.nifti_forms import matrix
from isoline.geometry.volume_grid import swap_ras


def write(result: Segmented, path: Path, dtype: str = "uint8") -> None:
    """Write `result` to `path`, .nii or .nii.gz, as voxels of a type that holds every label.

    Raises Malformed for another suffix.
    """
    with radiology():
        import nibabel
    check_path("nifti", path)
    forms = result.volume.forms
    affine = swap_ras(result.volume.grid.affine) if forms is None else matrix(forms.used)
    image = nibabel.Nifti1Image(np.ascontiguousarray(result.labels.T.astype(dtype)), affine)
    image.header.set_xyzt_units("mm" if forms is None else forms.units)
    if forms is not None:
        # both positions of the source, so that every reader places mask and image alike
        image.set_qform(matrix(forms.qform), forms.qform_code, update_affine=False)
        image.set_sform(matrix(forms.sform), forms.sform_code, update_affine=False)
    image.header["descrip"] = result.description.encode()[:79]
    nibabel.save(image, path)
