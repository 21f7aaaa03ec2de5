"""NRRD files, read again by ITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from isoline.exports import nrrd
from isoline.geometry.volume_grid import LPS, VolumeGrid
from tests import volumes

GRIDS = {
    "oblique": volumes.grid(axes=volumes.turned(0.4, -0.3, 1.2)),
    "tilted": volumes.grid(lean=(0.0, 0.5)),
}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", ">u2"])
@pytest.mark.parametrize("where", GRIDS.values(), ids=list(GRIDS))
def test_a_volume_lies_where_it_was(
    tmp_path: Path, where: VolumeGrid, dtype: str, compress: bool
) -> None:
    labels = (volumes.ramp(where.shape) % 251).astype(dtype)
    path = tmp_path / "labels.nrrd"
    path.write_bytes(nrrd.encode(labels, where, compress=compress))
    read = SimpleITK.ReadImage(str(path))
    voxels = SimpleITK.GetArrayFromImage(read)
    assert voxels.dtype == labels.dtype.newbyteorder("=")
    np.testing.assert_array_equal(voxels, labels)
    for index in ((0, 0, 0), (23, 0, 0), (0, 19, 0), (0, 0, 8)):
        place = where.affine @ (*index, 1)
        at = read.TransformIndexToPhysicalPoint(index)  # type: ignore[no-untyped-call]
        np.testing.assert_allclose(at, place[:3], atol=1e-9)


@pytest.mark.parametrize("compress", [False, True])
def test_a_picture(tmp_path: Path, compress: bool) -> None:
    labels = np.arange(35, dtype=np.uint16).reshape(5, 7) * 300
    path = tmp_path / "labels.nrrd"
    path.write_bytes(nrrd.encode(labels, compress=compress))
    read = SimpleITK.ReadImage(str(path))
    assert SimpleITK.GetArrayFromImage(read).shape == (5, 7)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(read), labels)


def test_every_byte_as_clients_have_parsed_it() -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    steps = LPS(0.5, 0, 0), LPS(0, 0.25, 0), LPS(0, -1, 2.5)
    where = VolumeGrid((2, 3, 4), LPS(-31, 0.1, 140), *steps)
    assert nrrd.encode(labels, where, compress=False) == (
        b"NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 3 4\n"
        b"space directions: (0.5,0,0) (0,0.25,0) (0,-1,2.5)\nkinds: domain domain domain\n"
        b"endian: little\nencoding: raw\nspace origin: (-31,0.10000000000000001,140)\n\n"
    ) + bytes(range(24))
    assert nrrd.encode(labels[0], compress=False) == (
        b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 2 3\nkinds: domain domain\n"
        b"endian: little\nencoding: raw\n\n\0\1\2\3\4\5"
    )
