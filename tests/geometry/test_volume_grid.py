"""Voxels in the patient: oblique, non-square, reversed, single, tilted, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from isoline.errors import BadRegion, BadSeries
from isoline.geometry.slice_stack import Plane, stack
from isoline.geometry.volume_grid import LPS, SliceName, VolumeGrid, VolumeInfo, swap_ras


def rotation(a: float, b: float, c: float) -> NDArray[np.float64]:
    """Return (3, 3): turned by `a` about x, then `b` about y, then `c` about z."""
    turned = np.eye(3)
    for axis, angle in enumerate((a, b, c)):
        one, other = (n for n in range(3) if n != axis)
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        turned = turn @ turned
    return turned


def series(
    count: int = 7,
    axes: NDArray[np.float64] | None = None,
    spacing: tuple[float, float, float] = (0.7, 1.3, 2.5),
    lean: tuple[float, float] = (0.0, 0.0),
) -> list[Plane]:
    """Return planes in ascending order; `lean`: mm along i and j from a slice to the next."""
    turned = np.eye(3) if axes is None else axes
    i, j, k = turned.T
    return [
        Plane(
            SliceName(f"1.2.3.{n}"),
            100 - n,
            LPS(*(np.array([-20.0, 33.0, 5.0]) + n * (spacing[2] * k + lean[0] * i + lean[1] * j))),
            LPS(*i),
            LPS(*j),
            (spacing[0], spacing[1]),
            (40, 30),
            "1.9",
            spacing[2],
        )
        for n in range(count)
    ]


angles = st.floats(-3.1, 3.1)
mm = st.floats(0.2, 6.0)


@given(angles, angles, angles, st.tuples(mm, mm, mm), st.randoms(), st.integers(2, 12))
def test_any_orientation_in_any_order(a, b, c, spacing, random, count) -> None:  # type: ignore[no-untyped-def]
    axes = rotation(a, b, c)
    planes = series(count, axes, spacing)
    shuffled = planes.copy()
    random.shuffle(shuffled)
    found = stack(shuffled)
    normal = np.cross(axes[:, 0], axes[:, 1])
    upwards = planes if normal @ axes[:, 2] > 0 else planes[::-1]
    assert [shuffled[n].name for n in found.order] == [plane.name for plane in upwards]
    assert found.grid.size == (40, 30, count)
    assert found.grid.spacing_mm == pytest.approx(spacing)
    assert not found.is_tilted
    for k, plane in enumerate(upwards):
        corner = found.grid.to_lps(np.array([0, 0, k]))
        np.testing.assert_allclose(corner, plane.origin_mm, atol=1e-6)
    index = np.array([[3.5, 7.25, 1], [0, 0, 0], [39, 29, count - 1]])
    back = found.grid.to_index(found.grid.to_lps(index))
    np.testing.assert_allclose(back, index, atol=1e-6)


def test_pixel_spacing_is_rows_first_and_columns_grow_along_the_first_axis() -> None:
    grid = stack(series(3)).grid
    np.testing.assert_allclose(grid.to_lps(np.array([10, 2, 1])), [-20 + 7.0, 33 + 2.6, 7.5])
    assert grid.shape == (3, 30, 40)
    assert grid.normal == (0, 0, 1)


def test_one_slice_has_its_thickness() -> None:
    assert stack(series(1)).grid.spacing_mm == pytest.approx((0.7, 1.3, 2.5))
    (plane,) = series(1)
    for missing in (None, 0.0, -2.5):
        grid = stack([replace(plane, thickness_mm=missing)]).grid
        assert grid.spacing_mm == pytest.approx((0.7, 1.3, 1.0))


def test_a_gantry_tilt_leans_the_grid() -> None:
    planes = series(9, rotation(0.3, 0, 0), lean=(0.0, 0.6))
    found = stack(planes[::-1])
    assert found.is_tilted
    for k, n in enumerate(found.order):
        np.testing.assert_allclose(
            found.grid.to_lps(np.array([0, 0, k])), planes[::-1][n].origin_mm, atol=1e-9
        )


def test_ras_becomes_lps_and_back() -> None:
    ras = np.array([[-1, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1.0]])
    grid = VolumeGrid.from_affine(swap_ras(ras), (181, 217, 181))
    assert grid.to_lps(np.array([0, 0, 0])).tolist() == [-90, 126, -72]
    np.testing.assert_array_equal(swap_ras(grid.affine), ras)


def moved(plane: Plane, x: float, y: float, z: float) -> Plane:
    return replace(plane, origin_mm=LPS(*np.add(plane.origin_mm, (x, y, z)).tolist()))


def refused(planes: list[Plane]) -> str:
    with pytest.raises(BadSeries) as refusal:
        stack(planes)
    return str(refusal.value)


def test_a_missing_slice_is_named_by_its_neighbours() -> None:
    planes = series(9)
    del planes[4]
    said = refused(planes)
    assert "1 slice is missing between slice 97 (1.2.3.3, frame 1) and slice 95 (1.2.3.5" in said


def test_a_doubled_slice_is_named() -> None:
    planes = series(6)
    said = refused([*planes, replace(planes[2], name=SliceName("1.2.3.77"))])
    assert "1.2.3.2" in said
    assert "1.2.3.77" in said
    assert "same position" in said


def test_several_volumes_in_one_series_are_refused() -> None:
    planes = [replace(p, name=SliceName(p.name.instance, t)) for p in series(5) for t in (1, 2, 3)]
    assert "3 volumes of 5 slices" in refused(planes)


def test_a_varying_spacing_is_named() -> None:
    planes = series(9)
    assert "spacing varies" in refused(
        [moved(p, 0, 0, 0.4) if n > 5 else p for n, p in enumerate(planes)]
    )


def test_a_slice_off_the_line_is_named() -> None:
    planes = series(9)
    planes[3] = moved(planes[3], 2, 0, 0)
    assert "slice 97 (1.2.3.3, frame 1) is 2.00 mm off" in refused(planes)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"size": (40, 31)}, "40 x 31 pixels"),
        ({"along_i": LPS(0, 1, 0), "along_j": LPS(0, 0, 1)}, "another orientation"),
        ({"spacing_mm": (0.7, 1.4)}, "pixels of (0.7, 1.4) mm"),
        ({"frame_of_reference": "1.8"}, "different frames of reference"),
    ],
)
def test_a_slice_unlike_the_others_is_named(change, problem) -> None:  # type: ignore[no-untyped-def]
    planes = series(5)
    planes[3] = replace(planes[3], **change)
    said = refused(planes)
    assert problem in said
    assert "1.2.3.3" in said


@pytest.mark.parametrize(("count", "told"), [(1, "1 slice is"), (3, "3 slices are")])
def test_missing_slices_are_counted(count: int, told: str) -> None:
    planes = series(12)
    del planes[4 : 4 + count]
    said = refused(planes)
    assert said.startswith(f"{told} missing between slice 97 (1.2.3.3, frame 1) and slice")
    assert f"{2.5 * (count + 1):.2f} mm apart, the others 2.50 mm" in said


@pytest.mark.parametrize(
    ("gap_mm", "told"),
    [
        (0.12, "same position"),  # less than a twentieth of the others
        (0.14, "spacing varies"),
        (2.1, "spacing varies"),
        (2.36, ""),
        (2.64, ""),
        (2.9, "spacing varies"),
        (3.7, "spacing varies"),
        (3.8, "1 slice is missing"),  # more than one and a half
    ],
)
def test_how_far_a_gap_may_be_from_the_others(gap_mm: float, told: str) -> None:
    """Of 2.5 mm; the slices after the gap follow evenly."""
    planes = [moved(p, 0, 0, gap_mm - 2.5) if n > 5 else p for n, p in enumerate(series(12))]
    if told:
        assert told in refused(planes)
    else:
        assert stack(planes).grid.size == (40, 30, 12)


def test_a_lost_block_is_missing_slices_and_not_volumes() -> None:
    planes = series(60)
    del planes[19:45]
    assert refused(planes).startswith("26 slices are missing between slice 82")


def test_two_spacings_are_told() -> None:
    """As in head CT: 2.5 mm through the skull base, 5 mm above."""
    planes = series(40)
    assert "9 of 2.50 mm, then 15 of 5.00 mm" in refused([*planes[:10], *planes[11::2]])


def test_moments_of_one_slice_are_told() -> None:
    planes = [replace(series(1)[0], name=SliceName("1.2.3.0", t)) for t in range(1, 21)]
    assert refused(planes).startswith("all 20 images are at the same position")


def test_a_volume_that_lacks_a_slice_of_several_is_told() -> None:
    planes = [replace(p, name=SliceName(p.name.instance, t)) for p in series(6) for t in (1, 2, 3)]
    del planes[10]
    said = refused(planes)
    assert "3 volumes of 6 slices" in said
    assert "2 instead of 3 where slice 97 (1.2.3.3" in said


@pytest.mark.parametrize("lean", [(0.0, 0.0), (0.0, 0.31)])
def test_positions_rounded_to_a_tenth_of_a_millimetre(lean: tuple[float, float]) -> None:
    exact = series(40, rotation(0.3, -0.2, 0.1), (0.5, 0.5, 0.625), lean=lean)
    planes = [replace(each, origin_mm=LPS(*np.round(each.origin_mm, 1).tolist())) for each in exact]
    grid = stack(planes).grid
    found = [grid.to_lps(np.array([0, 0, k])) for k in range(40)]
    np.testing.assert_allclose(found, [each.origin_mm for each in exact], atol=0.05)


def test_positions_that_jitter_a_little_are_a_volume() -> None:
    off = np.random.default_rng(3).uniform(-0.03, 0.03, 30) * 2.5
    planes = [moved(p, 0, 0, dz) for p, dz in zip(series(30), off.tolist(), strict=True)]
    found = stack(planes)
    assert found.grid.spacing_mm[2] == pytest.approx(2.5, abs=0.01)
    assert 0.02 < found.worst_mm < 0.1


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("off_mm", "is_refused"), [(0.065, False), (0.075, True)])
def test_how_far_a_slice_may_be_off_the_line(axis: int, off_mm: float, is_refused: bool) -> None:
    """A tenth of the finest step: 0.7 mm along i."""
    planes = series(9)
    planes[3] = moved(planes[3], *((off_mm, 0, 0) if axis == 0 else (0, off_mm, 0)))
    if is_refused:
        assert refused(planes).startswith("slice 97 (1.2.3.3, frame 1) is 0.0")
    else:
        assert stack(planes).order == tuple(range(9))


@pytest.mark.parametrize(("lean_mm", "is_tilted"), [(0.004, False), (0.005, True)])
def test_from_where_on_a_series_is_tilted(lean_mm: float, is_tilted: bool) -> None:
    """A twentieth of a pixel from the first to the last slice: 8 x lean against 0.035 mm."""
    assert stack(series(9, lean=(lean_mm, 0.0))).is_tilted is is_tilted


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"spacing_mm": (0.7 * 1.0009, 1.3)}, ""),
        ({"spacing_mm": (0.7 * 1.0012, 1.3)}, "pixels of"),
        ({"spacing_mm": (0.7, 1.3 * 1.0012)}, "pixels of"),
        ({"along_i": LPS(1, 0.0009, 0)}, ""),
        ({"along_i": LPS(1, 0.0012, 0)}, "another orientation"),
        ({"along_j": LPS(0.0012, 1, 0)}, "another orientation"),
    ],
)
def test_how_much_slices_may_differ(change: dict[str, object], told: str) -> None:
    planes = series(5)
    planes[1] = replace(planes[1], **change)  # type: ignore[arg-type]
    if told:
        assert told in refused(planes)
    else:
        assert stack(planes).grid.size == (40, 30, 5)


@pytest.mark.parametrize("spacing", [(0.0, 1.3), (0.7, 0.0), (-0.7, 1.3)])
def test_pixels_without_a_size_are_refused(spacing: tuple[float, float]) -> None:
    said = refused([replace(plane, spacing_mm=spacing) for plane in series(3)])
    assert said.startswith("slice 100 (1.2.3.0, frame 1) has no PixelSpacing above 0")


def test_axes_are_unit_vectors_at_right_angles() -> None:
    for along_i, is_refused in (
        (LPS(1.004, 0, 0), False),  # its square is 0.008 too long
        (LPS(1.006, 0, 0), True),
        (LPS(1, 0.009, 0), False),
        (LPS(0.9999, 0.011, 0), True),
        (LPS(float("nan"), 0, 0), True),
    ):
        planes = [replace(plane, along_i=along_i) for plane in series(3)]
        if is_refused:
            assert "not two unit vectors" in refused(planes)
        else:
            assert stack(planes).grid.size == (40, 30, 3)


def test_a_volume_of_two_phases_is_told_from_a_doubled_slice() -> None:
    planes = [replace(p, name=SliceName(p.name.instance, t)) for p in series(3) for t in (1, 2)]
    assert "2 volumes of 3 slices" in refused(planes)
    assert "same position" in refused(planes[:-1])


def test_slices_go_by_number_or_by_name() -> None:
    planes = series(4)
    names = tuple(plane.name for plane in planes)
    info = VolumeInfo(stack(planes).grid, names)
    assert [info.k_of(name, "ct") for name in names] == [0, 1, 2, 3]
    assert [info.k_of(k, "ct") for k in (0, 3)] == [0, 3]
    for k in (-1, 4):
        with pytest.raises(BadRegion, match=f"ct has no slice {k}") as caught:
            info.k_of(k, "ct")
        assert caught.value.remedy == "it has slices 0 to 3"
    with pytest.raises(BadRegion, match=r"ct has no instance 1\.2\.3\.0 with a frame 2"):
        info.k_of(SliceName("1.2.3.0", 2), "ct")


def test_a_plane_without_a_number_is_named_all_the_same() -> None:
    plane = series(1)[0]
    assert str(plane) == "slice 100 (1.2.3.0, frame 1)"
    assert str(replace(plane, number=None)) == "a slice (1.2.3.0, frame 1)"


def test_the_normal_is_a_unit_vector_across_the_slices() -> None:
    axes = rotation(0.3, -0.2, 0.7)
    grid = stack(series(5, axes, lean=(0.4, 0.1))).grid
    np.testing.assert_allclose(grid.normal, axes[:, 2], atol=1e-9)
    assert grid.frame_of_reference == "1.9"
    affine = np.array(grid.affine)
    assert VolumeGrid.from_affine(affine, grid.size, "1.9") == grid


def test_axes_that_are_none_are_refused() -> None:
    planes = [replace(plane, along_j=LPS(1, 0, 0)) for plane in series(3)]
    assert "not two unit vectors" in refused(planes)
    assert "no image slice" in refused([])
