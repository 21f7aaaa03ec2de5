"""NIfTI-1 and -2 files; this is the only place that converts their RAS millimetres to LPS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoline.errors import BadSeries, BadSpacing, Unreadable
from isoline.extras import radiology
from isoline.geometry.volume_grid import VolumeGrid, VolumeInfo, swap_ras
from isoline.sources.fingerprint import fingerprint
from isoline.sources.volume import VolumeSource, volume_image


class NiftiSource(VolumeSource):
    """A volume in a .nii or .nii.gz file, read by nibabel."""

    name = "nifti"

    def __init__(self, path: Path) -> None:
        """Read the header of `path`. Raises Unreadable, BadSeries or BadSpacing."""
        with radiology():
            import nibabel
        try:
            loaded: Any = nibabel.load(path)
            self._image = loaded
            header = self._image.header
            shape = tuple(self._image.shape)
            units = header.get_xyzt_units()[0]
        except Exception as error:  # nibabel raises errors of many kinds
            reason = str(error).replace(str(path), path.name)  # do not reveal the server's paths
            raise Unreadable(
                f"{path.name} is not a NIfTI file: {reason}", "check the file"
            ) from error
        if len(shape) > 3 and any(n > 1 for n in shape[3:]):
            raise BadSeries(
                f"{path.name} has {' x '.join(map(str, shape))} values: several volumes",
                "split it into one file per volume",
            )
        if len(shape) < 3:
            raise BadSeries(f"{path.name} has {len(shape)} axes", "use a volume with three axes")
        if header.get_data_dtype().fields is not None:
            raise BadSeries(f"{path.name} is in colour", "use a greyscale volume")
        if int(header.get("qform_code", 1)) == 0 and int(header.get("sform_code", 1)) == 0:
            raise BadSpacing(
                f"{path.name} does not define its position in the patient (qform and sform are 0)",
                "set its affine, for example with nibabel",
            )
        scale = {"meter": 1000.0, "micron": 1e-3}.get(units, 1.0)
        affine = swap_ras(np.array(self._image.affine, np.float64))
        affine[:3] *= scale
        if not abs(np.linalg.det(affine[:3, :3])) > 0:
            raise BadSpacing(f"{path.name} has a singular affine", "correct its affine")
        grid = VolumeGrid.from_affine(affine, (shape[0], shape[1], shape[2]))
        super().__init__(
            volume_image(
                self.name,
                fingerprint(path),
                VolumeInfo(grid),
                np.dtype(np.int16 if self._is_small() else np.float32),
            )
        )
        self._path = path

    @classmethod
    def open(cls, path: Path) -> NiftiSource:
        return cls(path)

    def _is_small(self) -> bool:
        """Return whether the header guarantees that every value fits int16."""
        slope, intercept = self._image.dataobj.slope, self._image.dataobj.inter
        kind = self._image.header.get_data_dtype()
        return slope == 1 and intercept == 0 and np.can_cast(kind, np.int16)

    def _read(self) -> NDArray[np.generic]:
        try:
            values = np.asarray(self._image.dataobj)
        except Exception as error:  # a damaged gzip stream raises errors of many kinds
            raise Unreadable(f"{self._path.name} is damaged: {error}", "copy it again") from error
        shape = self.volume.grid.shape
        # (i, j, k) in Fortran order is (k, j, i) in C order
        return np.array(values.reshape(shape[::-1]).T, self.info.dtype, order="C")
