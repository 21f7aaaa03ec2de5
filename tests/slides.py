"""Makers of synthetic images whose truth is known to the pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)

GLASS = (243, 240, 244)
STAIN = (96, 48, 144)
CELL_PX = 67
"""Side of the cells that hold one small shape each; prime, so that tiles cut them anywhere."""


@dataclass(frozen=True)
class Shapes:
    """A slide of flat shapes on glass: every pixel is GLASS or STAIN, no two shapes touch."""

    path: Path
    size: tuple[int, int]
    """(width, height)."""
    seed: int
    spacing_um: float | None

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """(y, x), 0 is glass, 1 .. n the shapes; the long ones come first."""
        return draw_shapes(self.size, self.seed)

    @cached_property
    def area_px(self) -> NDArray[np.int64]:
        """(n,) pixels of each shape, holes left out."""
        return np.bincount(self.labels.ravel())[1:]

    @property
    def count(self) -> int:
        return len(self.area_px)


def disks(
    path: Path,
    size: tuple[int, int] = (6007, 5003),
    *,
    seed: int = 1,
    spacing_um: float | None = 0.25,
    tile_px: int = 240,
) -> Shapes:
    """Write a lossless tiled TIFF with levels 1, 4 and 16 that OpenSlide calls generic-tiff.

    At the default size it holds more than 4,000 disks, rings, arcs and Ls, three bars that run
    from side to side, and one ring 2,000 pixels wide.
    """
    shapes = Shapes(path, size, seed, spacing_um)
    pixels = colour(shapes.labels)
    per_cm = None if spacing_um is None else (1e4 / spacing_um, 1e4 / spacing_um)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for factor in (1, 4, 16):
            tiff.write(
                reduce_mean(pixels, factor),
                tile=(tile_px, tile_px) if tile_px % 16 == 0 else (256, 256),
                photometric="rgb",
                compression="deflate",
                compressionargs={"level": 1},
                subfiletype=0 if factor == 1 else 1,
                metadata=None,
                resolution=None if per_cm is None else (per_cm[0] / factor, per_cm[1] / factor),
                resolutionunit="CENTIMETER" if per_cm else None,
            )
    return shapes


def colour(labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return (y, x, 3): STAIN where there is a label, GLASS elsewhere."""
    return np.array([GLASS, STAIN], np.uint8)[(labels > 0).view(np.uint8)]


def draw_shapes(size: tuple[int, int], seed: int) -> NDArray[np.int32]:
    """Draw the long shapes, then a small one into every lattice cell that is still empty."""
    width, height = size
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    count = 0
    for stamp, x, y in _long_shapes(width, height):
        count += 1
        _place(labels, stamp, x, y, count)
    for y in range(2, height - CELL_PX, CELL_PX):
        for x in range(2, width - CELL_PX, CELL_PX):
            if labels[y - 2 : y + CELL_PX, x - 2 : x + CELL_PX].any():
                continue
            stamp = _small_shape(rng)
            tall, wide = stamp.shape
            count += 1
            dx = rng.integers(1, CELL_PX - 2 - wide)
            dy = rng.integers(1, CELL_PX - 2 - tall)
            _place(labels, stamp, x + int(dx), y + int(dy), count)
    return labels


def _place(labels: NDArray[np.int32], stamp: NDArray[np.bool_], x: int, y: int, name: int) -> None:
    tall, wide = stamp.shape
    labels[y : y + tall, x : x + wide][stamp] = name


def _long_shapes(width: int, height: int) -> list[tuple[NDArray[np.bool_], int, int]]:
    """Return (stamp, x, y) of shapes that cross many tiles; the bars touch the image's border."""
    side = min(2000, width // 3, height // 3)
    return [
        (np.ones((7, width), np.bool_), 0, height // 7),
        (np.ones((5, width), np.bool_), 0, height - 41),
        (np.ones((height - height // 7 - 100, 9), np.bool_), width - 77, height // 7 + 30),
        (ring(side / 2, side / 2 - 13), width // 3, height // 3),
    ]


def _small_shape(rng: np.random.Generator) -> NDArray[np.bool_]:
    outer = float(rng.uniform(4, 24))
    match int(rng.integers(0, 8)):
        case 0:
            return ring(outer + 4, outer / 2)
        case 1:
            arc = ring(outer + 5, outer / 2 + 1)
            return arc[: arc.shape[0] * 2 // 3]
        case 2:
            corner = np.zeros((int(outer) + 12, int(outer) + 9), np.bool_)
            corner[:, :5] = corner[-4:] = True
            return corner
        case _:
            return disk(outer)


def disk(radius: float) -> NDArray[np.bool_]:
    """Return the pixels whose centre lies within `radius` of the centre of the stamp."""
    side = int(2 * radius) + 1
    away = np.arange(side) + 0.5 - side / 2
    return away[:, None] ** 2 + away**2 <= radius * radius


def ring(outer: float, inner: float) -> NDArray[np.bool_]:
    """Return a disk less the smaller disk of the same centre; 4-connected from 3 pixels on."""
    side = int(2 * outer) + 1
    away = np.arange(side) + 0.5 - side / 2
    square = away[:, None] ** 2 + away**2
    return (square <= outer * outer) & (square > inner * inner)


def reduce_mean(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return floor(size / factor) pixels, each the rounded mean of factor x factor."""
    if factor == 1:
        return pixels
    tall, wide = pixels.shape[0] // factor, pixels.shape[1] // factor
    whole = pixels[: tall * factor, : wide * factor]
    rows = np.add.reduceat(whole, np.arange(0, tall * factor, factor), axis=0, dtype=np.uint32)
    sums = np.add.reduceat(rows, np.arange(0, wide * factor, factor), axis=1, dtype=np.uint32)
    return ((sums + factor * factor // 2) // (factor * factor)).astype(np.uint8)


def textured(size: tuple[int, int], seed: int = 1) -> NDArray[np.uint8]:
    """Return (y, x, 3) noise with some structure: every shift and every swap of axes shows."""
    width, height = size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) % 256], axis=-1)
    return (ramps * 0.75 + rng.integers(0, 64, ramps.shape)).astype(np.uint8)


def leica(path: Path, at: tuple[int, int]) -> NDArray[np.uint8]:
    """Write a slide of Leica's format (SCN), 0.5 um, whose scan begins at `at` level-0 pixels.

    Returns the pixels (y, x, 3) of the scan, 800 x 600, which OpenSlide calls its bounds.
    """
    scan = np.full((600, 800, 3), 240, np.uint8)
    scan[100:200, 50:250] = 150, 20, 40
    per_cm = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    options = {"tile": (256, 256), "photometric": "rgb", "metadata": None, **per_cm}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        macro = np.full((760, 265, 3), 200, np.uint8)
        tiff.write(macro, description=_scn(at), **options)
        tiff.write(scan, **options)
        tiff.write(reduce_mean(scan, 2), **options)
    return scan


def _scn(at: tuple[int, int]) -> str:
    """Return the description of an SCN with a macro and a scan; lengths are in nanometres."""
    uuid = 'uuid="urn:uuid:00000000-0000-0000-0000-00000000000{}"'.format
    scanned = (
        "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>"
        "<illuminationSettings><illuminationSource>brightfield</illuminationSource>"
        "<numericalAperture>0.1</numericalAperture></illuminationSettings></scanSettings></image>"
    )
    return (
        '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" '
        f'{uuid(1)}><collection name="c" {uuid(2)} sizeX="26500000" sizeY="76000000">'
        f'<barcode/><image name="macro" {uuid(3)}><device model="x" version="1"/>'
        '<pixels sizeX="265" sizeY="760">'
        '<dimension r="0" sizeX="265" sizeY="760" ifd="0"/></pixels>'
        f'<view sizeX="26500000" sizeY="76000000" offsetX="0" offsetY="0"/>{scanned}'
        f'<image name="scan" {uuid(4)}><device model="x" version="1"/>'
        '<pixels sizeX="800" sizeY="600"><dimension r="0" sizeX="800" sizeY="600" ifd="1"/>'
        '<dimension r="1" sizeX="400" sizeY="300" ifd="2"/></pixels>'
        f'<view sizeX="400000" sizeY="300000" offsetX="{at[0] * 500}" offsetY="{at[1] * 500}"/>'
        f"{scanned}</collection></scn>"
    )


CHANNELS = ("DAPI", "CD3", "PanCK")
Z_PLANES = 2


def fluorescence(
    path: Path, size: tuple[int, int] = (701, 523), *, pyramid: bool = True
) -> NDArray[np.uint16]:
    """Write a 16-bit OME-TIFF of 2 planes x 3 named channels, levels 1 and 2, 0.5 x 0.4 um.

    Returns its pixels as (z, c, y, x).
    """
    width, height = size
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 60_000, (Z_PLANES, len(CHANNELS), height, width), dtype=np.uint16)
    pixels += np.arange(width, dtype=np.uint16)
    metadata = {
        "axes": "ZCYX",
        "Channel": {"Name": list(CHANNELS)},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.4,
        "PhysicalSizeYUnit": "µm",
    }
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(
            pixels,
            tile=(128, 128),
            photometric="minisblack",
            compression="deflate",
            metadata=metadata,
            subifds=1 if pyramid else 0,
        )
        if not pyramid:
            return pixels
        half = pixels[..., : height // 2 * 2 : 2, : width // 2 * 2 : 2]
        tiff.write(
            half, tile=(128, 128), photometric="minisblack", compression="deflate", subfiletype=1
        )
    return pixels


def dicom_slide(folder: Path, size: tuple[int, int] = (1111, 777)) -> NDArray[np.uint8]:
    """Write an uncompressed DICOM whole slide, levels 1 and 4, 0.5 um, into `folder`.

    Returns its level-0 pixels as (y, x, 3). PS3.3 A.32.8, TILED_FULL.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels = textured(size, seed=3)
    uids = {name: generate_uid() for name in ("study", "series", "frame")}
    for factor in (1, 4):
        image = reduce_mean(pixels, factor)
        _dicom_level(image, 0.0005 * factor, uids, factor).save_as(
            folder / f"level{factor}.dcm", enforce_file_format=True
        )
    return pixels


def _dicom_level(
    image: NDArray[np.uint8], spacing_mm: float, uids: Mapping[str, str], factor: int
) -> FileDataset:
    """Return one level as a VL Whole Slide Microscopy instance of 128-pixel tiles."""
    height, width, _ = image.shape
    side, uid = 128, generate_uid()
    rows, columns = -(-height // side), -(-width // side)
    padded = np.pad(image, ((0, rows * side - height), (0, columns * side - width), (0, 0)), "edge")
    tiles = padded.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        VLWholeSlideMicroscopyImageStorage,
        uid,
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slide = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    slide.SOPClassUID, slide.SOPInstanceUID, slide.Modality = (
        VLWholeSlideMicroscopyImageStorage,
        uid,
        "SM",
    )
    slide.StudyInstanceUID, slide.SeriesInstanceUID = uids["study"], uids["series"]
    slide.FrameOfReferenceUID, slide.ContainerIdentifier = uids["frame"], "slide"
    slide.PatientName, slide.PatientID, slide.StudyID = "Nobody^Anne", "0", "0"
    slide.StudyDate = slide.ContentDate = "20240101"
    slide.StudyTime = slide.ContentTime = "000000"
    slide.AcquisitionDateTime = "20240101000000"
    slide.Manufacturer, slide.ManufacturerModelName = "none", "none"
    slide.DeviceSerialNumber, slide.SoftwareVersions = "0", "0"
    slide.SeriesNumber, slide.InstanceNumber = 1, factor
    slide.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE" if factor == 1 else "RESAMPLED"]
    slide.VolumetricProperties, slide.SpecimenLabelInImage = "VOLUME", "NO"
    slide.FocusMethod, slide.ExtendedDepthOfField = "AUTO", "NO"
    slide.BurnedInAnnotation, slide.LossyImageCompression = "NO", "00"
    slide.DimensionOrganizationType, slide.PositionReferenceIndicator = "TILED_FULL", "SLIDE_CORNER"
    slide.NumberOfOpticalPaths = slide.TotalPixelMatrixFocalPlanes = 1
    slide.SamplesPerPixel, slide.PhotometricInterpretation, slide.PlanarConfiguration = 3, "RGB", 0
    slide.BitsAllocated, slide.BitsStored, slide.HighBit, slide.PixelRepresentation = 8, 8, 7, 0
    slide.Rows = slide.Columns = side
    slide.TotalPixelMatrixRows, slide.TotalPixelMatrixColumns = height, width
    slide.NumberOfFrames = rows * columns
    slide.ImagedVolumeWidth, slide.ImagedVolumeHeight = width * spacing_mm, height * spacing_mm
    slide.ImagedVolumeDepth = 0.001
    slide.ImageOrientationSlide = [0, 1, 0, 1, 0, 0]

    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = [spacing_mm, spacing_mm], 0.001
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    frame_type = Dataset()
    frame_type.FrameType = slide.ImageType
    shared.WholeSlideMicroscopyImageFrameTypeSequence = Sequence([frame_type])
    optical = Dataset()
    optical.OpticalPathIdentifier = "1"
    identification = Dataset()
    identification.OpticalPathIdentifier = "1"
    identification.IlluminationTypeCodeSequence = Sequence(
        [_code("111744", "DCM", "Brightfield illumination")]
    )
    identification.IlluminationColorCodeSequence = Sequence(
        [_code("414298005", "SCT", "Full Spectrum")]
    )
    shared.OpticalPathIdentificationSequence = Sequence([optical])
    slide.SharedFunctionalGroupsSequence = Sequence([shared])
    slide.OpticalPathSequence = Sequence([identification])
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem = origin.YOffsetInSlideCoordinateSystem = 0
    slide.TotalPixelMatrixOriginSequence = Sequence([origin])
    slide.PixelData = np.ascontiguousarray(tiles).tobytes()
    return slide


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def truncated(slide: Path, path: Path, keep: float = 0.5) -> Path:
    """Write the first part of `slide`, as a broken copy over the network leaves it."""
    whole = slide.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    return path


def bit_flipped(slide: Path, path: Path, page: int = 0, tile: int = 0) -> Path:
    """Write `slide` with every bit of one encoded tile turned over."""
    damaged = bytearray(slide.read_bytes())
    with tifffile.TiffFile(slide) as tiff:
        where = tiff.pages[page]
        start, length = where.dataoffsets[tile], where.databytecounts[tile]
    flipped = np.frombuffer(damaged, np.uint8, length, start) ^ 0xFF
    damaged[start : start + length] = flipped.tobytes()
    path.write_bytes(damaged)
    return path
