"""NIfTI-1 and -2 files; this is the only place that converts their RAS millimetres to LPS."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from isoline.errors import BadSeries, BadSpacing, Unreadable
from isoline.extras import radiology
from isoline.geometry.nifti_forms import NiftiForms, rows
from isoline.geometry.volume_grid import VolumeGrid, VolumeInfo, swap_ras
from isoline.sources.fingerprint import fingerprint
from isoline.sources.volume import EXACT, VolumeSource, volume_image

_MM = {"meter": 1000.0, "micron": 1e-3}
"""Millimetres per unit; files that do not say are in millimetres."""
_APART_MM = 0.01
"""Distance between qform and sform that is worth a note."""
_FIRST_VOXEL = {"nifti1": 352, "nifti2": 544}
_CHUNK = 1 << 20


class NiftiSource(VolumeSource):
    """A volume in a .nii or .nii.gz file, read by nibabel."""

    name = "nifti"

    def __init__(self, path: Path) -> None:
        """Read the header of `path`. Raises Unreadable, BadSeries or BadSpacing."""
        self._path = path
        self._image, header = self._loaded()
        size = _size(path.name, self._image)
        _check_values(path.name, header)
        forms = _forms(path.name, self._image.header, header)
        scale = _MM.get(forms.units, 1.0)
        affine = swap_ras(np.array(self._image.affine, np.float64))
        affine[:3] *= scale
        if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 0:
            raise BadSpacing(f"{path.name} has a singular affine", "correct its affine")
        grid = VolumeGrid.from_affine(affine, size)
        super().__init__(
            volume_image(
                self.name,
                fingerprint(path),
                VolumeInfo(grid, forms=forms),
                np.dtype(np.int16 if self._is_small() else np.float32),
                tuple(_problems(grid, forms)),
            )
        )

    @classmethod
    def open(cls, path: Path) -> NiftiSource:
        return cls(path)

    def _loaded(self) -> tuple[Any, Any]:
        """Return the image, and the header as it is in the file: nibabel mends that of the
        image."""
        with radiology():
            import nibabel
        # its own warnings would appear among isoline's; what is wrong is checked here
        logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
        try:
            loaded: Any = nibabel.load(self._path)
            loaded.header.get_xyzt_units()
            with self._opened() as stream:
                header = type(loaded.header).from_fileobj(stream, check=False)
        except Exception as error:  # nibabel raises errors of many kinds
            raise Unreadable(
                f"{self._path.name} is not a NIfTI file: {self._without_path(error)}",
                "check the file",
            ) from error
        if not isinstance(loaded, nibabel.Nifti1Image):
            raise Unreadable(f"{self._path.name} is not a NIfTI file", "convert it to .nii.gz")
        return loaded, header

    def _without_path(self, error: Exception) -> str:
        """Return the message of `error` without the path of the file, which is the server's."""
        said = str(error).replace(str(self._path), self._path.name)
        return said.replace(str(self._path.resolve()), self._path.name)

    def _is_small(self) -> bool:
        """Return whether the header guarantees that every value fits int16."""
        slope, intercept = self._image.dataobj.slope, self._image.dataobj.inter
        kind = self._image.header.get_data_dtype()
        return slope == 1 and intercept == 0 and np.can_cast(kind, np.int16)

    def _read(self) -> NDArray[np.generic]:
        try:
            with self._opened() as stream:
                values = np.asarray(type(self._image).from_stream(stream).dataobj)
                while stream.read(_CHUNK):  # gzip has its check sum at the end
                    pass
        except Exception as error:  # a damaged gzip stream raises errors of many kinds
            raise Unreadable(
                f"{self._path.name} is damaged: {self._without_path(error)}", "copy it again"
            ) from error
        shape = self.volume.grid.shape
        # (i, j, k) in Fortran order is (k, j, i) in C order
        turned = values.reshape(shape[::-1]).T
        with np.errstate(over="ignore"):
            voxels = np.array(turned, self.info.dtype, order="C")
        _check_exact(self._path.name, turned, voxels)
        return voxels

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if self._path.name.lower().endswith(".gz"):
            with gzip.open(self._path, "rb") as packed:
                yield cast(BinaryIO, packed)
        else:
            with self._path.open("rb") as plain:
                yield plain


def _size(name: str, image: Any) -> tuple[int, int, int]:
    shape = tuple(map(int, image.shape))
    if len(shape) > 3 and any(n > 1 for n in shape[3:]):
        raise BadSeries(
            f"{name} has {' x '.join(map(str, shape))} values: several volumes",
            "split it into one file per volume",
        )
    if len(shape) < 2:
        raise BadSeries(f"{name} has {len(shape)} axes", "use a volume with three axes")
    columns, rows_, slices = (*shape, 1)[:3]
    if min(columns, rows_, slices) < 1:
        raise BadSeries(
            f"{name} has {columns} x {rows_} x {slices} voxels, so it is empty", "check the file"
        )
    return columns, rows_, slices


def _check_values(name: str, header: Any) -> None:
    """Raise BadSeries or Unreadable if the file does not contain greyscale values."""
    kind = header.get_data_dtype()
    if kind.fields is not None:
        raise BadSeries(f"{name} is in colour", "use a greyscale volume")
    if kind.kind == "c":
        raise BadSeries(
            f"{name} has complex values", "save their magnitude, or the part that you want"
        )
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isinf(slope) or (slope and np.isfinite(slope) and not np.isfinite(intercept)):
        raise BadSeries(
            f"{name} scales its values by {slope:g} and adds {intercept:g}",
            "correct scl_slope and scl_inter",
        )
    is_single = bytes(header["magic"].tobytes()).startswith(b"n+")
    first = _FIRST_VOXEL["nifti2" if int(header["sizeof_hdr"]) == 540 else "nifti1"]
    if is_single and int(header["vox_offset"]) < first:
        raise Unreadable(
            f"{name} says that its voxels begin at byte {int(header['vox_offset'])}, within the"
            " header",
            "correct vox_offset",
        )


def _forms(name: str, mended: Any, header: Any) -> NiftiForms:
    """Return both positions; `header` is as in the file, `mended` as nibabel understands it."""
    qform_code, sform_code = int(header["qform_code"]), int(header["sform_code"])
    if qform_code == 0 and sform_code == 0:
        raise BadSpacing(
            f"{name} does not define its position in the patient (qform and sform are 0)",
            "set its affine, for example with nibabel",
        )
    sides = np.array(header["pixdim"][1:4], np.float64)
    is_flat = int(header["dim"][0]) < 3
    used = sides[:2] if is_flat else sides
    if sform_code == 0 and not (np.isfinite(used) & (used > 0)).all():
        raise BadSpacing(
            f"{name} has voxels of {' x '.join(f'{side:g}' for side in sides)} (pixdim)",
            "correct pixdim, or set the sform",
        )
    try:
        qform = mended.get_qform()
    except Exception:  # quaternions of no rotation; unused if the sform is set
        if sform_code == 0:
            raise BadSpacing(f"{name} has a qform that is no rotation", "correct it") from None
        qform, qform_code = mended.get_sform(), 0
    units = mended.get_xyzt_units()[0]
    return NiftiForms(rows(qform), qform_code, rows(mended.get_sform()), sform_code, units)


def _problems(grid: VolumeGrid, forms: NiftiForms) -> Iterator[str]:
    apart = forms.apart(grid.size) * _MM.get(forms.units, 1.0)
    if apart > _APART_MM:
        yield (
            f"qform and sform place the volume up to {apart:.2f} mm apart; isoline uses the sform,"
            " and masks carry both"
        )
    if grid.is_sheared:
        yield "its axes are not at right angles: programs based on ITK refuse it and its masks"


def _check_exact(name: str, values: NDArray[np.generic], voxels: NDArray[np.generic]) -> None:
    """Raise BadSeries if `voxels` are not what `values` are, but for rounding of fractions."""
    is_whole = values.dtype.kind in "iu" and values.dtype.itemsize > 2
    if is_whole and (np.abs(values.astype(np.float64)) > EXACT).any() and (voxels != values).any():
        raise BadSeries(
            f"{name} has values beyond {EXACT:,}, which cannot be kept exactly",
            "use values of 24 bits or less",
        )
    is_longer = values.dtype.kind == "f" and values.dtype.itemsize > 4
    if is_longer and np.isinf(voxels).any() and not np.isinf(values).any():
        raise BadSeries(f"{name} has values beyond 3.4e38", "scale them")
