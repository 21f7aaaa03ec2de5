"""Labels as a DICOM Segmentation (PS3.3 A.51), written by highdicom.

Patient, study and frame of reference are those of the source; every frame refers to the slice that
it lies on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.sr.codedict import codes

from isoline import __version__
from isoline.domain.segments import Algorithm, Segment
from isoline.errors import NotSupported
from isoline.exports import headers as headers_of_source
from isoline.exports.labelmap import Segmented
from isoline.extras import radiology

SERIES_NUMBER = 900
"""High, so that derived series are listed after those of the scanner."""


def write(result: Segmented, path: Path) -> None:
    """Write a BINARY segmentation, which every viewer that supports segmentations reads."""
    binary(result).save_as(path)


def write_labelmap(result: Segmented, path: Path) -> None:
    """Write a LABELMAP segmentation (2024): one frame per slice for all labels."""
    labelmap(result).save_as(path)


def binary(result: Segmented) -> Any:
    """Return the dataset. Raises NotSupported as `_dataset` does."""
    return _dataset(result, "BINARY")


def labelmap(result: Segmented) -> Any:
    """Return the dataset. Raises NotSupported as `_dataset` does."""
    return _dataset(result, "LABELMAP")


def _dataset(result: Segmented, kind: str) -> Any:
    """Return the dataset; `kind` is BINARY or LABELMAP.

    Raises NotSupported without a DICOM source, and if nothing was found, since DICOM does not allow
    an empty segmentation.
    """
    with radiology():
        import highdicom
    headers = result.need_headers("dicomseg")
    result.need_voxels("dicomseg")
    is_multiframe = "PerFrameFunctionalGroupsSequence" in headers[0]
    if is_multiframe and len(headers) > 1:
        raise NotSupported(
            "the series has several multi-frame instances, and highdicom supports only one",
            "write nifti or rtstruct",
        )
    labels = result.labels
    if is_multiframe:
        # highdicom expects the order of the frames; the order along the normal is isoline's
        frames = [name.frame for name in result.volume.slices]
        labels = labels[np.argsort(frames)]
    sources = headers_of_source.mended(headers, result.volume)
    described = [_described(number, segment) for number, segment in enumerate(result.segments, 1)]
    try:
        return highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=np.ascontiguousarray(labels),
            segmentation_type=kind,
            segment_descriptions=described,
            series_instance_uid=result.uid(f"{kind} series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=result.uid(kind),
            instance_number=1,
            manufacturer="isoline",
            manufacturer_model_name="isoline",
            software_versions=__version__,
            device_serial_number="0",
            series_description=result.description[:64],
            specific_character_set=headers_of_source.UTF_8,
        )
    except Exception as error:  # highdicom raises errors of many kinds for unusual headers
        raise NotSupported(
            f"the headers of {result.image} cannot become a DICOM segmentation:"
            f" {type(error).__name__}: {error}",
            "use format rtstruct or nifti, or have the series corrected where it was made",
        ) from error


def _described(number: int, segment: Segment) -> Any:
    import highdicom
    from pydicom.sr.coding import Code

    label = segment.label
    if label.anatomy is None:
        category = kind = codes.SCT.Tissue
    else:
        category = Code("123037004", "SCT", "Anatomical Structure")
        kind = Code(label.anatomy[0], "SCT", label.anatomy[1])
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=headers_of_source.checked_name(label.name),
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=segment.algorithm_type,
        algorithm_identification=_identified(segment.algorithm),
    )
    described.RecommendedDisplayCIELabValue = _cielab(label.color)
    return described


def _identified(algorithm: Algorithm | None) -> Any:
    import highdicom

    if algorithm is None:
        return None
    return highdicom.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=codes.DCM.ArtificialIntelligence,
        version=algorithm.version[:64],
        parameters={name: str(value) for name, value in algorithm.parameters} or None,
    )


def _cielab(rgb: tuple[int, int, int]) -> list[int]:
    """Return an sRGB colour as CIELab (D65) scaled to 16 bits, as in PS3.3 C.10.7.1.1."""
    linear = np.array(rgb) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = matrix @ linear / [0.9505, 1.0, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
    scaled = (lab + np.array([0, 128, 128])) * 65535 / [100, 255, 255]
    stored: list[int] = np.clip(np.rint(scaled), 0, 65535).astype(int).tolist()
    return stored
