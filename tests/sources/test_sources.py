from __future__ import annotations

import io
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from isoline import plugins
from isoline.errors import Broken, NotFound, TooLarge, UnknownFormat, UnknownModel, Unreadable
from isoline.exports.registry import EXPORTS
from isoline.geometry.grid import XY, Box
from isoline.models.catalogue import MODELS
from isoline.plugins import entry_points
from isoline.sources import openslide, plain, pyramid
from isoline.sources.fingerprint import fingerprint
from isoline.sources.large_image import LargeImageSource
from isoline.sources.openslide import OpenSlideSource
from isoline.sources.plain import PlainSource
from isoline.sources.registry import READERS, SOURCES, open_image, without_folders
from isoline.sources.tiff import TiffSource
from isoline.testing.contracts import SourceContract
from tests.slides import (
    CHANNELS,
    Shapes,
    bit_flipped,
    colour,
    dicom_slide,
    disks,
    fluorescence,
    textured,
    truncated,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def small_disks(folder: Path) -> Shapes:
    return disks(folder / "small.tif", (1501, 1103))


@pytest.fixture(scope="module")
def dicom(folder: Path) -> Path:
    dicom_slide(folder / "dicom")
    return folder / "dicom" / "level1.dcm"


@pytest.fixture(scope="module")
def flipped(folder: Path, real_slide: Path) -> Path:
    """The real slide with the tile at x 0, y 0 destroyed."""
    return bit_flipped(real_slide, folder / "flipped.svs")


class TestOpenSlide(SourceContract):
    source = OpenSlideSource

    @pytest.fixture
    def path(self, small_disks: Shapes) -> Path:
        return small_disks.path

    @pytest.fixture
    def damaged(self, small_disks: Shapes, tmp_path: Path) -> Path:
        return truncated(small_disks.path, tmp_path / "cut.tif")


class TestOpenSlideOnTheRealSlide(SourceContract):
    source = OpenSlideSource

    @pytest.fixture
    def path(self, real_slide: Path) -> Path:
        return real_slide

    @pytest.fixture
    def damaged(self, real_slide: Path, tmp_path: Path) -> Path:
        return truncated(real_slide, tmp_path / "cut.svs")


class TestOpenSlideWithoutTiff(SourceContract):
    """DICOM, whose second level has the scale 4.008 in OpenSlide: read in fixed blocks."""

    source = OpenSlideSource

    @pytest.fixture
    def path(self, dicom: Path) -> Path:
        return dicom

    @pytest.fixture
    def damaged(self, dicom: Path, tmp_path: Path) -> Path:
        return truncated(dicom, tmp_path / "cut.dcm")


class TestTiff(SourceContract):
    source = TiffSource

    @pytest.fixture
    def path(self, folder: Path) -> Path:
        path = folder / "stack.ome.tif"
        if not path.exists():
            fluorescence(path)
        return path

    @pytest.fixture
    def damaged(self, path: Path, tmp_path: Path) -> Path:
        return truncated(path, tmp_path / "cut.ome.tif", keep=0.6)


class TestLargeImage(SourceContract):
    source = LargeImageSource

    @pytest.fixture
    def path(self, dicom: Path) -> Path:
        return dicom

    @pytest.fixture
    def damaged(self, dicom: Path, tmp_path: Path) -> Path:
        return truncated(dicom, tmp_path / "cut.dcm")


class TestLargeImageOnTiff(SourceContract):
    source = LargeImageSource

    @pytest.fixture
    def path(self, small_disks: Shapes) -> Path:
        return small_disks.path

    @pytest.fixture
    def damaged(self, small_disks: Shapes, tmp_path: Path) -> Path:
        return truncated(small_disks.path, tmp_path / "cut.tif")


class TestPlain(SourceContract):
    source = PlainSource

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "plain.png"
        Image.fromarray(textured((231, 107))).save(path)
        return path

    @pytest.fixture
    def damaged(self, path: Path, tmp_path: Path) -> Path:
        return truncated(path, tmp_path / "cut.png")


class TestTruth:
    """What is read is what was written."""

    @pytest.mark.parametrize("reader", ["openslide", "tiff", "large_image"])
    def test_level_0_is_lossless(self, small_disks: Shapes, reader: str) -> None:
        source = open_image(small_disks.path, reader)
        box = Box(333, 211, 1501, 1103)
        rows, columns = Box(0, 0, 1501, 1103).slices_of(box)
        expected = colour(small_disks.labels)[rows, columns]
        np.testing.assert_array_equal(np.moveaxis(source.read_level(0, box), 0, 2), expected)
        assert source.info.spacing_um == pytest.approx(XY(0.25, 0.25))
        # and no level that a reader would have to make up
        scales = [level.downsample.x for level in source.info.levels]
        assert scales in ([1, 4, 16], [1, 4])

    def test_the_default_slide_has_thousands_of_shapes(self, disk_slide: Shapes) -> None:
        assert disk_slide.count > 4000
        info = OpenSlideSource.open(disk_slide.path).info
        assert [level.downsample for level in info.levels] == [XY(1, 1), XY(4, 4), XY(16, 16)]

    def test_native_pixels_where_openslide_interpolates(self, real_slide: Path) -> None:
        source = OpenSlideSource.open(real_slide)
        assert source.info.levels[2].downsample == XY(16.0, 16.0)
        expected = tifffile.imread(real_slide, key=3)[300:800, 1001:1601]
        native = np.moveaxis(source.read_level(2, Box(1001, 300, 1601, 800)), 0, 2)
        np.testing.assert_array_equal(native, expected)

    def test_tiles_look_as_they_do_through_openslide(self, real_slide: Path) -> None:
        box = Box(12001, 6003, 12400, 6302)
        ours = np.moveaxis(OpenSlideSource.open(real_slide).read_level(0, box), 0, 2)
        theirs = openslide._Slide(real_slide).read(0, box)
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1

    def test_dicom_through_both_readers(self, dicom: Path, tmp_path: Path) -> None:
        box = Box(100, 50, 1111, 777)
        for reader in ("openslide", "large_image"):
            source = open_image(dicom, reader)
            expected = textured((1111, 777), seed=3)[50:, 100:]
            np.testing.assert_array_equal(np.moveaxis(source.read_level(0, box), 0, 2), expected)
            assert source.info.spacing_um == pytest.approx(XY(0.5, 0.5))
            assert source.info.kind == "slide"

    @pytest.mark.parametrize(
        ("reader", "names"),
        [("tiff", CHANNELS), ("large_image", ("channel 1", "channel 2", "channel 3"))],
    )
    def test_fluorescence_keeps_16_bits_channels_and_planes(
        self, tmp_path: Path, reader: str, names: tuple[str, ...]
    ) -> None:
        pixels = fluorescence(tmp_path / "stack.ome.tif", pyramid=False)
        source = open_image(tmp_path / "stack.ome.tif", reader)
        info = source.info
        assert (info.channels, info.z_planes, info.dtype.name) == (names, 2, "uint16")
        assert info.spacing_um == pytest.approx(XY(0.5, 0.4))
        assert info.background == (0, 0, 0)
        for z in range(2):
            read = source.read_level(0, Box(120, 33, 701, 523), z)
            np.testing.assert_array_equal(read, pixels[z, :, 33:, 120:])

    def test_a_pyramid_of_fluorescence(self, tmp_path: Path) -> None:
        pixels = fluorescence(tmp_path / "stack.ome.tif")
        source = open_image(tmp_path / "stack.ome.tif")
        assert [level.size for level in source.info.levels] == [(701, 523), (350, 261)]
        read = source.read_level(1, Box(7, 3, 350, 261), 1)
        np.testing.assert_array_equal(read, pixels[1, :, 6:522:2, 14:700:2])


@pytest.mark.parametrize("stated", ["RGB", "YBR_FULL_422"])
@pytest.mark.parametrize("is_rgb", [False, True])
def test_jpeg_tiles_of_dicom_are_what_they_say_themselves(
    tmp_path: Path, stated: str, is_rgb: bool
) -> None:
    dicom_slide(tmp_path, (256, 256))
    (tmp_path / "level4.dcm").unlink()
    path = tmp_path / "level1.dcm"
    slide = dcmread(path)
    tile = io.BytesIO()
    Image.new("RGB", (128, 128), (200, 40, 60)).save(tile, "JPEG", quality=95, keep_rgb=is_rgb)
    slide.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    slide.PixelData = encapsulate([tile.getvalue()] * 4)
    slide["PixelData"].VR, slide["PixelData"].is_undefined_length = "OB", True
    slide.PhotometricInterpretation, slide.LossyImageCompression = stated, "01"
    slide.save_as(path)
    source = open_image(path)
    read = source.read_level(0, Box(100, 100, 140, 120)).reshape(3, -1)
    assert np.abs(read.T.astype(int) - (200, 40, 60)).max() <= 3
    is_converted = stated == "RGB" and not is_rgb
    assert any("YCbCr" in problem for problem in source.info.problems) == is_converted


def test_a_dicom_slide_of_more_than_8_bits_is_refused(tmp_path: Path) -> None:
    dicom_slide(tmp_path / "slide")
    path = tmp_path / "slide/level1.dcm"
    slide = dcmread(path)
    slide.BitsAllocated, slide.BitsStored, slide.HighBit = 16, 12, 11
    slide.SamplesPerPixel, slide.PhotometricInterpretation = 1, "MONOCHROME2"
    frames = np.frombuffer(slide.PixelData, np.uint8).reshape(-1, 3)[:, 0]
    slide.PixelData = (frames.astype(np.uint16) * 16).tobytes()
    del slide.PlanarConfiguration
    slide.save_as(path)
    with pytest.raises(Unreadable, match="DICOM slide of 16 bits"):
        open_image(path)


class TestOpenSlideErrors:
    def test_one_bad_tile_spoils_no_other(self, flipped: Path) -> None:
        source = OpenSlideSource.open(flipped)
        with pytest.raises(Unreadable, match=r"flipped\.svs.* x 0, y 0"):
            source.read_level(0, Box(10, 10, 20, 20))
        assert source.read_level(0, Box(240, 240, 300, 300)).shape == (3, 60, 60)

    def test_an_openslide_handle_is_replaced_after_an_error(self, flipped: Path) -> None:
        slide = openslide._Slide(flipped)
        good, bad = Box(9000, 6000, 9100, 6100), Box(10, 10, 20, 20)
        expected = slide.read(0, good)

        def read(box: Box) -> object:
            try:
                return slide.read(0, box)
            except Unreadable as error:
                return error

        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(read, [good, bad] * 6))
        assert len(answers) == 12
        for pixels, error in zip(answers[::2], answers[1::2], strict=True):
            np.testing.assert_array_equal(pixels, expected)
            assert isinstance(error, Unreadable)
            assert "level 0 at x 10, y 10" in str(error)


class TestPyramid:
    @pytest.mark.parametrize(
        ("whole", "part", "expected"),
        [(13835, 3458, 4.0), (13835, 864, 16.0), (31872, 1992, 16.0), (777, 195, 4.0)],
    )
    def test_a_scale_that_rounding_explains_is_whole(
        self, whole: int, part: int, expected: float
    ) -> None:
        assert pyramid.level((whole, whole), (part, part)).downsample == XY(expected, expected)

    def test_another_scale_stays_and_is_told(self) -> None:
        levels = (pyramid.level((1000, 800), (1000, 800)), pyramid.level((1000, 800), (300, 200)))
        assert levels[1].downsample == XY(1000 / 300, 4.0)
        (problem,) = pyramid.scale_problems(levels)
        assert "level 1" in problem

    def test_the_cache_keeps_to_its_limit(self) -> None:
        cache = pyramid.TileCache(limit=3000)
        decoded = []

        def decode(key: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
            decoded.append(key)
            return np.full(1000, key, np.uint8)

        for key in (1, 2, 3, 1, 4, 1, 2):
            assert cache.get(key, lambda key=key: decode(key))[0] == key  # type: ignore[misc]
        assert decoded == [1, 2, 3, 4, 2]


class TestPlainImages:
    def save(self, image: Image.Image, path: Path, **options: object) -> PlainSource:
        image.save(path, **options)  # type: ignore[arg-type]
        return PlainSource.open(path)

    @pytest.mark.parametrize("pillows_limit", [None, 89_478_485])
    def test_a_bomb_is_refused_before_it_is_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pillows_limit: int | None
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_limit)
        path = tmp_path / "bomb.png"
        Image.new("1", (20_000, 20_000)).save(path)
        monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
        with pytest.raises(TooLarge, match="untiled"):
            PlainSource.open(path)
        monkeypatch.setattr(plain, "MAX_PIXELS", 10)
        with pytest.raises(TooLarge):
            PlainSource.open(path)

    def test_what_is_transparent_is_white(self, tmp_path: Path) -> None:
        image = Image.new("RGBA", (4, 3), (200, 0, 0, 0))
        image.putpixel((1, 2), (10, 20, 30, 255))
        pixels = self.save(image, tmp_path / "a.png").read_level(0, Box(0, 0, 4, 3))
        assert pixels[:, 0, 0].tolist() == [255, 255, 255]
        assert pixels[:, 2, 1].tolist() == [10, 20, 30]

    @pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("P", "png"), ("CMYK", "tif")])
    def test_other_colours_become_rgb(self, tmp_path: Path, mode: str, suffix: str) -> None:
        image = Image.new("RGB", (32, 16), (255, 0, 0)).convert(mode)
        source = self.save(image, tmp_path / f"a.{suffix}")
        assert source.info.is_rgb
        red, green, blue = source.read_level(0, Box(5, 5, 6, 6)).ravel().tolist()
        assert red > 230
        assert max(green, blue) < 30

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bit_grey_is_kept(self, tmp_path: Path, suffix: str) -> None:
        values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
        source = self.save(Image.fromarray(values), tmp_path / f"a.{suffix}")
        assert (source.info.dtype.name, source.info.channels) == ("uint16", ("grey",))
        np.testing.assert_array_equal(source.read_level(0, Box(0, 0, 4, 3))[0], values)

    @pytest.mark.parametrize("alpha", [False, True])
    @pytest.mark.parametrize("bits", [12, 16])
    def test_a_png_of_deep_colours(self, tmp_path: Path, bits: int, alpha: bool) -> None:
        colours = textured((64, 48))
        colours[:8] = 250
        deep = colours.astype(np.uint16) << (bits - 8)
        if alpha:
            opacity = np.full((48, 64, 1), 65535, np.uint16)
            opacity[40:] = 0
            deep = np.concatenate([deep, opacity], axis=2)
        path = tmp_path / "deep.png"
        path.write_bytes(imagecodecs.png_encode(deep))
        source = open_image(path)
        read = np.moveaxis(source.read_level(0, Box(0, 0, 64, 48)), 0, 2)
        np.testing.assert_array_equal(read[:40], colours[:40])
        assert (read[40:] == (255 if alpha else colours[40:])).all()
        assert any(f"of which {bits} are in use" in problem for problem in source.info.problems)

    def test_orientation_is_ignored_and_told(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[274] = 6
        source = self.save(Image.new("RGB", (8, 4)), tmp_path / "a.jpg", exif=exif)
        assert source.info.size == (8, 4)
        assert any("orientation" in problem for problem in source.info.problems)

    @pytest.mark.parametrize(("dpi", "expected"), [(50_800, 0.5), (72, None), (300, None)])
    def test_only_a_believable_png_resolution_counts(
        self, tmp_path: Path, dpi: int, expected: float | None
    ) -> None:
        spacing = self.save(Image.new("L", (2, 2)), tmp_path / "a.png", dpi=(dpi, dpi)).info
        assert spacing.spacing_um == (expected and pytest.approx(XY(expected, expected), rel=1e-3))
        assert bool(spacing.problems) == (expected is None)

    def test_png_density_without_a_unit_is_no_spacing(self, tmp_path: Path) -> None:
        chunks = PngImagePlugin.PngInfo()
        chunks.add(b"pHYs", (2_000_000).to_bytes(4, "big") * 2 + b"\0")
        assert self.save(Image.new("L", (2, 2)), tmp_path / "a.png", pnginfo=chunks).info.problems

    @pytest.mark.parametrize(("unit", "expected"), [("CENTIMETER", XY(0.5, 0.4)), ("NONE", None)])
    def test_tiff_tags(self, tmp_path: Path, unit: str, expected: XY | None) -> None:
        pixels = textured((64, 32))
        path = tmp_path / "flat.tif"
        tifffile.imwrite(
            path, pixels, photometric="rgb", resolution=(20_000, 25_000), resolutionunit=unit
        )
        for reader in (None, "plain", "tiff"):
            info = open_image(path, reader).info
            assert info.kind == "image"
            assert info.spacing_um == (expected and pytest.approx(expected))


class TestFingerprint:
    def test_a_copy_has_it_too_and_a_change_shows(self, tmp_path: Path, real_slide: Path) -> None:
        copy = tmp_path / "renamed.tif"
        shutil.copy(real_slide, copy)
        assert fingerprint(copy) == fingerprint(real_slide)
        with copy.open("r+b") as file:
            file.seek(-1, 2)
            last = file.read(1)
            file.seek(-1, 2)
            file.write(bytes([last[0] ^ 1]))
        assert fingerprint(copy) != fingerprint(real_slide)
        with copy.open("ab") as file:
            file.write(b"\0")
        assert fingerprint(copy) != fingerprint(real_slide)

    def test_a_big_file_takes_no_longer(self, tmp_path: Path) -> None:
        big = tmp_path / "big"
        with big.open("wb") as file:
            file.truncate(50 << 30)
        start = time.perf_counter()
        fingerprint(big)
        assert time.perf_counter() - start < 0.5

    def test_the_files_of_a_mirax_slide_count(self, tmp_path: Path) -> None:
        def make(name: str, *pixels: bytes) -> str:
            (tmp_path / f"{name}.mrxs").write_bytes(b"index")
            (tmp_path / name).mkdir()
            for number, content in enumerate(pixels):
                (tmp_path / name / f"Data000{number}.dat").write_bytes(content)
            return fingerprint(tmp_path / f"{name}.mrxs")

        # a folder lists its files in any order
        assert make("a", b"1", b"2", b"3") == make("b", b"3", b"2", b"1")
        assert make("c", b"1", b"2") != make("d", b"1", b"1")

    def test_the_levels_of_a_dicom_slide_count(self, dicom: Path, tmp_path: Path) -> None:
        shutil.copytree(dicom.parent, tmp_path / "copy")
        copy = tmp_path / "copy" / "level4.dcm"
        assert fingerprint(copy) == fingerprint(dicom)
        content = bytearray(copy.read_bytes())
        content[-1] ^= 1
        copy.write_bytes(content)
        assert fingerprint(tmp_path / "copy" / "level1.dcm") != fingerprint(dicom)


class TestRegistry:
    def test_unknown_names_name_what_exists(self) -> None:
        with pytest.raises(UnknownModel, match="did you mean 'nuclei'"):
            MODELS.load("nucleii")
        with pytest.raises(UnknownFormat, match="geojson"):
            EXPORTS.load("nothing")
        with pytest.raises(NotFound, match="openslide"):
            SOURCES.load("openslidee")

    def test_every_reader_in_the_order_is_installed(self) -> None:
        assert set(READERS) <= set(SOURCES.names())
        installed = SOURCES.load_all()
        assert not installed.broken
        assert {name: kind.name for name, kind in installed.working.items()} == {
            name: name for name in installed.working
        }

    def test_a_broken_plugin_leaves_the_others_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from importlib.metadata import EntryPoint

        broken = EntryPoint("bad", "no_such_package:Reader", "isoline.sources")
        entries = {**entry_points("source"), "bad": broken}
        monkeypatch.setattr(plugins, "entry_points", lambda noun: entries)
        installed = SOURCES.load_all()
        assert "plain" in installed.working
        assert "no_such_package" in installed.broken["bad"]
        with pytest.raises(Broken, match="no_such_package"):
            SOURCES.load("bad")

    def test_png_and_jpeg_go_to_plain(self, ihc: Path, histo: Path) -> None:
        for path in (ihc, histo):
            assert open_image(path).info.reader == "plain"

    def test_scanners_slides_go_to_openslide_and_other_tiffs_do_not(
        self, small_disks: Shapes, dicom: Path, tmp_path: Path
    ) -> None:
        fluorescence(tmp_path / "f.tif")
        expected = {small_disks.path: "tiff", dicom: "openslide", tmp_path / "f.tif": "tiff"}
        assert {path: open_image(path).info.reader for path in expected} == expected

    def test_when_none_can_read_the_one_that_knows_says_why(self, tmp_path: Path) -> None:
        path = tmp_path / "float.tif"
        tifffile.imwrite(path, np.zeros((40, 30), np.float64))
        with pytest.raises(Unreadable, match=r"float\.tif has pixels of type float64"):
            open_image(path)

    @pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"<!DOCTYPE html><html>404</html>"])
    def test_what_is_no_image_is_one_sentence(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.svs"
        path.write_bytes(content)
        with pytest.raises(Unreadable) as caught:
            open_image(path)
        assert str(caught.value).count("a.svs") == 1
        assert "copy it again" in str(caught.value)

    def test_half_a_download_says_so(
        self, small_disks: Shapes, real_slide: Path, tmp_path: Path
    ) -> None:
        path = truncated(real_slide, tmp_path / "cut.svs", 0.3)
        with pytest.raises(
            Unreadable, match=r"cut\.svs ends.*before its first page; copy it again"
        ):
            open_image(path)
        info = open_image(truncated(small_disks.path, tmp_path / "cut.tif", 0.9)).info
        assert any("copy it again" in problem for problem in info.problems)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("cannot identify image file '/data/srv/a.svs'", "cannot identify image file 'a.svs'"),
            ("./made/srv/page.svs: bad", "page.svs: bad"),
            (r"C:\scans\a.svs is bad", "a.svs is bad"),
            ("4 samples/pixel at x 3/4, 1:2", "4 samples/pixel at x 3/4, 1:2"),
        ],
    )
    def test_folders_of_the_server_are_not_told(self, text: str, expected: str) -> None:
        assert without_folders(text) == expected

    def test_no_reader_tells_where_a_file_is(self, tmp_path: Path) -> None:
        for name, content in (
            ("a.png", b"\x89PNG"),
            ("a.dcm", b"\0" * 128 + b"DICM"),
            ("b.jpg", b"x"),
        ):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(Unreadable) as caught:
                open_image(tmp_path / name)
            assert str(tmp_path) not in str(caught.value)
            assert name in str(caught.value)

    def test_a_folder_or_nothing_is_unreadable(self, tmp_path: Path) -> None:
        for path, why in ((tmp_path, "no DICOM image"), (tmp_path / "nothing.svs", "not exist")):
            with pytest.raises(Unreadable, match=why):
                open_image(path)
