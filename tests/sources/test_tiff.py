"""TIFFs as they come: several images, odd pyramids, colour models, depths and pixel sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from isoline.errors import NotSupported, Unreadable
from isoline.geometry.grid import XY, Box
from isoline.sources.pyramid import fitting_level
from isoline.sources.registry import open_image
from isoline.sources.source import ImageInfo, Source
from isoline.sources.tiff import TiffSource

SIZE = (400, 300)
TILED: dict[str, Any] = {"tile": (128, 128), "metadata": None}
RGB: dict[str, Any] = {**TILED, "photometric": "rgb"}


def scene() -> NDArray[np.uint8]:
    """Return (y, x, 3): glass with a red and a blue square, off centre."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 240, np.uint8)
    pixels[50:100, 25:125] = 150, 20, 40
    pixels[200:250, 300:350] = 20, 40, 150
    return pixels


def grey() -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(scene()).convert("L"))


def um(spacing: float) -> dict[str, Any]:
    """Return the tags of a pixel size."""
    return {"resolution": (1e4 / spacing, 1e4 / spacing), "resolutionunit": "CENTIMETER"}


def pixels_of(source: Source, level: int = 0) -> NDArray[np.generic]:
    """Return (y, x, c) of a whole level."""
    return np.moveaxis(source.read_level(level, Box(0, 0, *source.info.levels[level].size)), 0, 2)


def scales(info: ImageInfo) -> list[float]:
    return [level.downsample.x for level in info.levels]


class TestSeries:
    def test_spacing_and_names_are_those_of_the_image_that_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "two.ome.tif"
        with tifffile.TiffWriter(path, ome=True) as tiff:
            for step, name, spacing, channels in (
                (4, "overview", 2.6, ["Brightfield", "Autofluo"]),
                (1, "scan", 0.65, ["DAPI", "FITC"]),
            ):
                tiff.write(
                    np.stack([grey(), 255 - grey()])[:, ::step, ::step].astype(np.uint16),
                    photometric="minisblack",
                    metadata={
                        "axes": "CYX",
                        "Name": name,
                        "PhysicalSizeX": spacing,
                        "PhysicalSizeY": spacing,
                        "Channel": {"Name": channels},
                    },
                )
        info = open_image(path).info
        assert (info.size, info.channels) == (SIZE, ("DAPI", "FITC"))
        assert info.spacing_um == XY(0.65, 0.65)
        assert [image.name for image in info.series] == ["overview", "scan"]
        assert any("1 (scan): 400 x 300; 1 is read" in problem for problem in info.problems)
        other = TiffSource(path, "Overview").info
        assert (other.size, other.channels) == ((100, 75), ("Brightfield", "Autofluo"))
        assert other.spacing_um == XY(2.6, 2.6)
        assert other.fingerprint != info.fingerprint
        assert TiffSource(path, 1).info.fingerprint == info.fingerprint
        with pytest.raises(NotSupported, match=r"0 \(overview\).*1 \(scan\)"):
            TiffSource(path, 2)

    @pytest.mark.parametrize("names", [("macro", "slide"), ("Label", "")])
    def test_a_label_is_not_the_scan_however_large(
        self, tmp_path: Path, names: tuple[str, str]
    ) -> None:
        path = tmp_path / "label.ome.tif"
        with tifffile.TiffWriter(path, ome=True) as tiff:
            large = np.repeat(np.repeat(scene(), 2, 0), 2, 1)
            for pixels, name in ((large, names[0]), (scene(), names[1])):
                tiff.write(
                    pixels,
                    tile=(128, 128),
                    photometric="rgb",
                    metadata={"axes": "YXS", "Name": name},
                )
        np.testing.assert_array_equal(pixels_of(open_image(path)), scene())

    def test_a_thumbnail_before_the_image(self, tmp_path: Path) -> None:
        path = tmp_path / "thumbnail.tif"
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(grey()[::8, ::8], photometric="minisblack", metadata=None, **um(2.0))
            tiff.write(grey(), **TILED, photometric="minisblack", **um(0.25))
        info = open_image(path).info
        assert (info.size, info.spacing_um) == (SIZE, XY(0.25, 0.25))


class TestPixelSize:
    @pytest.mark.parametrize("tags", [um(1.0), {}])
    def test_ome_counts_more_than_the_resolution_tags(
        self, tmp_path: Path, tags: dict[str, Any]
    ) -> None:
        path = tmp_path / "a.ome.tif"
        metadata = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
        options: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb"}
        with tifffile.TiffWriter(path, ome=True) as tiff:
            tiff.write(scene(), subifds=1, metadata=metadata, **options, **tags)
            tiff.write(scene()[::2, ::2], subfiletype=1, **options)
        source = open_image(path)
        assert source.info.spacing_um == XY(0.25, 0.25)
        assert scales(source.info) == [1, 2]
        assert any("tags 1" in problem for problem in source.info.problems) == bool(tags)
        np.testing.assert_array_equal(pixels_of(source, 1), scene()[::2, ::2])

    @pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
    def test_imagej(self, tmp_path: Path, unit: str) -> None:
        path = tmp_path / "imagej.tif"
        tifffile.imwrite(path, grey(), imagej=True, resolution=(2.0, 2.0), metadata={"unit": unit})
        assert open_image(path).info.spacing_um == XY(0.5, 0.5)

    def test_imagej_without_a_length(self, tmp_path: Path) -> None:
        path = tmp_path / "imagej.tif"
        tifffile.imwrite(
            path, grey(), imagej=True, resolution=(2.0, 2.0), metadata={"unit": "pixel"}
        )
        assert open_image(path).info.spacing_um is None


class TestColourModels:
    @pytest.mark.parametrize("mode", ["P", "CMYK", "LAB", "YCbCr"])
    def test_pillows_models_become_rgb(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / f"{mode}.tif"
        image = Image.fromarray(scene())
        if mode == "P":
            image.convert("P", palette=Image.Palette.ADAPTIVE, colors=8).save(path)
        else:
            image.convert(mode).save(path)
        source = open_image(path)
        assert source.info.is_rgb
        difference = np.abs(pixels_of(source).astype(int) - scene())
        assert difference.max() <= (2 if mode in ("LAB", "YCbCr") else 0)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_zero_may_be_white(self, tmp_path: Path, dtype: type[np.generic]) -> None:
        path = tmp_path / "inverted.tif"
        levels = grey().astype(dtype) * (1 if dtype is np.uint8 else 257)
        stored = np.iinfo(dtype).max - levels  # type: ignore[type-var]
        tifffile.imwrite(path, stored.astype(dtype), photometric="miniswhite", metadata=None)
        np.testing.assert_array_equal(pixels_of(open_image(path))[..., 0], levels)

    @pytest.mark.parametrize("planes", ["contig", "separate"])
    def test_four_samples_of_grey_are_four_channels(self, tmp_path: Path, planes: str) -> None:
        path = tmp_path / "four.tif"
        channels = np.dstack([grey(), 255 - grey(), grey() // 2, grey() // 3])
        tifffile.imwrite(
            path,
            channels if planes == "contig" else np.moveaxis(channels, 2, 0),
            photometric="minisblack",
            planarconfig=planes,
            extrasamples=[0, 0, 0],
            **TILED,
        )
        source = open_image(path)
        assert len(source.info.channels) == 4
        np.testing.assert_array_equal(pixels_of(source), channels)

    def test_colours_in_separate_planes(self, tmp_path: Path) -> None:
        path = tmp_path / "planes.tif"
        tifffile.imwrite(path, np.moveaxis(scene(), 2, 0), planarconfig="separate", **RGB)
        source = open_image(path)
        assert source.info.is_rgb
        np.testing.assert_array_equal(pixels_of(source), scene())

    @pytest.mark.parametrize(("alpha", "tile"), [("unassalpha", None), ("assocalpha", (128, 128))])
    def test_what_is_transparent_is_white(
        self, tmp_path: Path, alpha: str, tile: tuple[int, int] | None
    ) -> None:
        path = tmp_path / "alpha.tif"
        pixels = np.dstack([scene(), np.full(SIZE[::-1], 255, np.uint8)])
        pixels[:, 350:] = 0
        tifffile.imwrite(
            path, pixels, photometric="rgb", extrasamples=[alpha], tile=tile, metadata=None
        )
        source = open_image(path)
        expected = scene()
        expected[:, 350:] = 255
        np.testing.assert_array_equal(pixels_of(source), expected)
        assert any("transparent" in problem for problem in source.info.problems)

    def test_half_transparent(self, tmp_path: Path) -> None:
        path = tmp_path / "half.tif"
        pixels = np.full((32, 32, 4), (100, 0, 255, 128), np.uint8)
        tifffile.imwrite(
            path, pixels, photometric="rgb", extrasamples=["unassalpha"], metadata=None
        )
        theirs = Image.new("RGBA", (1, 1), "white")
        theirs.alpha_composite(Image.new("RGBA", (1, 1), (100, 0, 255, 128)))
        read = pixels_of(open_image(path))[7, 9]
        assert np.abs(read.astype(int) - theirs.convert("RGB").getpixel((0, 0))).max() <= 1

    def test_a_fourth_sample_of_no_meaning_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "four.tif"
        pixels = np.dstack([scene(), grey()])
        tifffile.imwrite(path, pixels, extrasamples=["unspecified"], **RGB)
        source = open_image(path)
        np.testing.assert_array_equal(pixels_of(source), scene())
        assert any("does not say what the 1 samples" in problem for problem in source.info.problems)

    def test_other_models_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "lab.tif"
        tifffile.imwrite(path, scene(), photometric="cielab", **TILED)
        with pytest.raises(Unreadable, match=r"L\*a\*b\*"):
            open_image(path, "tiff")


class TestDepth:
    @pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
    def test_colours_of_more_than_8_bits_keep_their_look(self, tmp_path: Path, bits: int) -> None:
        path = tmp_path / "deep.tif"
        noise = np.random.default_rng(0).integers(0, 2 ** (bits - 8), scene().shape)
        deep = (scene().astype(np.uint16) << (bits - 8)) + noise.astype(np.uint16)
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(deep, **RGB)
            tiff.write(deep[::2, ::2], subfiletype=1, **RGB)
        source = open_image(path)
        np.testing.assert_array_equal(pixels_of(source), scene())
        np.testing.assert_array_equal(pixels_of(source, 1), scene()[::2, ::2])
        assert (source.info.dtype.name, source.info.background) == ("uint8", (255, 255, 255))
        assert any(f"of which {bits} are in use" in problem for problem in source.info.problems)

    def test_a_dim_exposure_whose_range_is_stated(self, tmp_path: Path) -> None:
        path = tmp_path / "dim.tif"
        deep = scene().astype(np.uint16) * 8  # half of 12 bits
        tifffile.imwrite(path, deep, extratags=[(281, 3, 3, (4095,) * 3, True)], **RGB)
        np.testing.assert_array_equal(pixels_of(open_image(path)), scene() // 2)

    def test_fluorescence_stays_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "grey.tif"
        deep = grey().astype(np.uint16) * 16
        tifffile.imwrite(path, deep, photometric="minisblack", **TILED)
        np.testing.assert_array_equal(pixels_of(open_image(path))[..., 0], deep)


class TestLayout:
    @pytest.mark.parametrize("orientation", [3, 6])
    @pytest.mark.parametrize("tile", [(128, 128), None])
    def test_pixels_are_read_as_stored_whatever_the_orientation(
        self, tmp_path: Path, orientation: int, tile: tuple[int, int] | None
    ) -> None:
        path = tmp_path / "turned.tif"
        tifffile.imwrite(
            path,
            scene(),
            tile=tile,
            photometric="rgb",
            metadata=None,
            extratags=[(274, 3, 1, orientation, True)],
        )
        source = open_image(path)
        np.testing.assert_array_equal(pixels_of(source), scene())
        assert any(f"orientation {orientation}" in problem for problem in source.info.problems)

    def test_a_level_padded_to_whole_tiles(self, tmp_path: Path) -> None:
        path = tmp_path / "padded.tif"
        padded = np.full((256, 256, 3), 240, np.uint8)
        padded[:150, :200] = scene()[::2, ::2]
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(scene(), **RGB)
            tiff.write(padded, subfiletype=1, **RGB)
        source = open_image(path)
        assert [level.size for level in source.info.levels] == [SIZE, (200, 150)]
        np.testing.assert_array_equal(pixels_of(source, 1), scene()[::2, ::2])

    def test_a_level_of_another_shape_is_not_used(self, tmp_path: Path) -> None:
        path = tmp_path / "odd.tif"
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(scene(), **RGB)
            tiff.write(scene()[::2, ::3].copy(), subfiletype=1, **RGB)
        info = open_image(path).info
        assert scales(info) == [1]
        assert any("134 x 150 pixels does not fit" in problem for problem in info.problems)

    def test_steps_between_levels_may_be_of_any_size(self, tmp_path: Path) -> None:
        path = tmp_path / "steps.tif"
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(scene(), **RGB)
            tiff.write(scene()[::8, ::8].copy(), subfiletype=1, **RGB)
        assert scales(open_image(path).info) == [1, 8]

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_missing_tiles_of_colours_are_glass(
        self, tmp_path: Path, dtype: type[np.generic]
    ) -> None:
        path = tmp_path / "sparse.tif"
        tiles = (np.full((128, 128, 3), 200, dtype) if place < 3 else None for place in range(4))
        tifffile.imwrite(path, tiles, shape=(256, 256, 3), dtype=dtype, **RGB)
        source = open_image(path)
        read = pixels_of(source)
        assert (read[128:, 128:] == 255).all()
        assert (read[:128] == 200).all()
        assert any("1 tiles are not stored" in problem for problem in source.info.problems)


@pytest.mark.parametrize(
    ("size", "stated", "expected"),
    [
        ((200, 150), None, ((200, 150), 2)),
        ((201, 151), None, ((201, 151), 400 / 201)),
        ((256, 256), None, ((200, 150), 2)),
        ((256, 150), None, None),
        ((128, 128), None, None),  # 4 and 8 are both possible
        ((128, 128), 4.0, ((100, 75), 4)),
        ((128, 128), 8.02, ((50, 37), 8)),
    ],
)
def test_which_level_fits(
    size: tuple[int, int], stated: float | None, expected: tuple[tuple[int, int], float] | None
) -> None:
    level = fitting_level(SIZE, size, (128, 128), stated)
    assert (level and (level.size, level.downsample.x)) == expected


def test_a_square_image_padded_is_not_scaled_by_a_fraction() -> None:
    level = fitting_level((1000, 1000), (512, 512), (256, 256), 2.0)
    assert level is not None
    assert (level.size, level.downsample) == ((500, 500), XY(2, 2))
