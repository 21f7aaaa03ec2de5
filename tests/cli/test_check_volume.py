"""What `isoline check` says of volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from isoline.cli.main import main
from isoline.geometry.volume_grid import VolumeGrid, swap_ras
from tests import volumes

SIZE = (24, 20, 9)
AXIAL = volumes.grid(SIZE)
CORONAL = volumes.grid(SIZE, axes=np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]]).T)
OBLIQUE = volumes.grid(SIZE, axes=volumes.turned(0.2, 0, 0))
ORIENTATIONS = {
    "axial; columns, rows and slices run to left, posterior and superior (LPS)": AXIAL,
    "coronal; columns, rows and slices run to left, inferior and posterior (LIP)": CORONAL,
    "axial, 11.5 degrees oblique; columns, rows": OBLIQUE,
}


def checked(path: Path) -> dict[str, str]:
    """Return the lines that `check` prints, by name; problems are under "!"."""
    ran = CliRunner().invoke(main, ["check", str(path)], catch_exceptions=False)
    lines = [line.partition(" ") for line in ran.output.splitlines()]
    wide = [line[:12].strip() for line in ran.output.splitlines()]
    assert ran.exit_code == 0, ran.output
    return {
        first if first == "!" else name: line[2:] if first == "!" else line[13:]
        for (first, _, _), name, line in zip(lines, wide, ran.output.splitlines(), strict=True)
    }


@pytest.mark.parametrize(("told", "where"), ORIENTATIONS.items(), ids=["axial", "coronal", "off"])
def test_a_series(tmp_path: Path, told: str, where: VolumeGrid) -> None:
    voxels = volumes.ramp(where.shape)
    volumes.write_classic(
        tmp_path / "ct", where, voxels, WindowCenter=[40, 300], WindowWidth=[400, 1500]
    )
    said = checked(tmp_path / "ct")
    assert said["orientation"].startswith(told)
    assert said["modality"] == "CT"
    assert said["series"] == "ramp"
    assert said["size"] == "24 x 20 x 9 voxels"
    assert said["extent"] == "19.2 x 22.0 x 22.5 mm"
    assert said["voxel"] == "0.8 x 1.1 x 2.5 mm"
    assert said["slices apart"] == "2.5 mm (2.5 to 2.5)"
    assert said["files"] == "9 read, with 9 slices"
    assert said["stored as"] == "Explicit VR Little Endian (can be decoded)"
    assert said["window"] == "centre 40, width 400"
    assert said["values"] == "float32, in HU"
    assert "!" not in said
    assert "Phantom" not in str(said), "the name of the patient is nobody's business"


def test_what_was_left_out(tmp_path: Path) -> None:
    paths = volumes.write_classic(tmp_path / "ct", AXIAL, volumes.ramp(AXIAL.shape))
    paths[0].with_name("copy.dcm").write_bytes(paths[0].read_bytes())
    said = checked(tmp_path / "ct")
    assert said["files"] == "9 read, with 9 slices"
    assert said["!"] == "1 file is a copy of another and was left out: copy.dcm"


def test_enhanced_files_and_nifti(tmp_path: Path) -> None:
    voxels = volumes.ramp(OBLIQUE.shape)
    volumes.write_enhanced(tmp_path / "mr" / "all.dcm", OBLIQUE, voxels)
    said = checked(tmp_path / "mr")
    assert (said["modality"], said["files"]) == ("MR", "1 read, with 9 slices")
    nibabel.save(nibabel.Nifti1Image(voxels.T, swap_ras(OBLIQUE.affine)), tmp_path / "v.nii.gz")
    said = checked(tmp_path / "v.nii.gz")
    assert said["orientation"].startswith("axial, 11.5 degrees oblique")
    assert said["values"] == "int16, of unknown unit"
    assert "files" not in said
