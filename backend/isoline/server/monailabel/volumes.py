"""Volumes: a request on a series or a NIfTI file, and its mask in the clients' file formats."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from isoline.domain.prompts import Prompt
from isoline.domain.request import SegmentRequest
from isoline.errors import NotSupported
from isoline.exports import labelmap, nifti, nrrd
from isoline.exports.labelmap import Segmented
from isoline.exports.ohif import OHIF
from isoline.images.catalog import Found
from isoline.models.model import ModelSpec
from isoline.server.monailabel.runs import FinishedRun
from isoline.server.monailabel.wsi import parameters

SUFFIXES = (".nii.gz", ".nii", ".nrrd")
TYPES = ("uint8", "uint16", "int16", "int32")
DICOM = "application/dicom"


@dataclass(frozen=True)
class VolumeInference:
    """The result of a model on a volume."""

    run: FinishedRun
    spec: ModelSpec
    found: Found
    """The image."""

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The labels (k, j, i)."""
        assert self.run.labels is not None
        return self.run.labels


def request(
    name: str,
    model: str,
    spec: ModelSpec,
    params: Mapping[str, object],
    prompts: tuple[Prompt, ...],
) -> SegmentRequest:
    """Return the request for `model`, which has `spec`, on the volume called `name`."""
    return SegmentRequest(
        image=name,
        model=model,
        parameters=parameters(spec, params),
        prompts=prompts,
        format=OHIF.name,
    )


@dataclass(frozen=True)
class VolumeFormat:
    """The file format of a mask."""

    suffix: str
    dtype: str
    compress: bool
    """Applies to NRRD; `.nii.gz` is always compressed."""

    @classmethod
    def of(cls, params: Mapping[str, object]) -> VolumeFormat:
        """Return the format requested by `result_...` in `params`. Raises NotSupported."""
        suffix = str(params.get("result_extension") or SUFFIXES[0]).lower()
        suffix = suffix if suffix.startswith(".") else f".{suffix}"
        if suffix not in SUFFIXES:
            raise NotSupported(
                f"a mask of a volume cannot be written as {suffix!r}",
                f"set result_extension to {', '.join(SUFFIXES)}, or use output=dicom_seg",
            )
        dtype = str(params.get("result_dtype") or TYPES[0])
        if dtype not in TYPES:
            raise NotSupported(
                f"a mask cannot have voxels of type {dtype!r}", f"choose {', '.join(TYPES)}"
            )
        return cls(suffix, dtype, bool(params.get("result_compress")))


def as_mask(answer: VolumeInference, kind: VolumeFormat) -> bytes:
    """Return the mask as a file, on the grid of the image."""
    if kind.suffix == ".nrrd":
        assert answer.run.started.volume is not None
        labels = answer.labels.astype(kind.dtype, copy=False)
        return nrrd.encode(labels, answer.run.started.volume.grid, compress=kind.compress)
    result = Segmented.found(answer.labels, answer.run.started)
    return _written(partial(nifti.write, result, dtype=kind.dtype), kind.suffix)


def as_dicom_seg(answer: VolumeInference) -> bytes:
    """Return a DICOM Segmentation. Raises NotSupported without a series, or if nothing was
    found."""
    from isoline.exports.volume_source import source_of  # slow to import, so on first use

    headers = source_of(answer.found).headers
    result = Segmented.found(answer.labels, answer.run.started, headers)
    return _written(partial(labelmap.writer("dicomseg"), result), ".dcm")


def check_dicom_seg(found: Found, spec: ModelSpec) -> None:
    """Check before anything is computed that the result can become a DICOM Segmentation.

    Raises NotSupported.
    """
    from isoline.exports.volume_source import source_of

    labelmap.rehearse("dicomseg", spec.labels, source_of(found))


def as_json(answer: VolumeInference) -> bytes:
    """Return the JSON of `explained`."""
    return orjson.dumps(explained(answer))


def explained(answer: VolumeInference) -> dict[str, object]:
    """Return the meaning of the values in a mask, and the run time."""
    seconds = round(answer.run.seconds, 3)
    names = {label.name: k for k, label in enumerate(answer.spec.labels, 1)}
    return {"label_names": names, "latencies": {"infer": seconds, "total": seconds}}


def _written(write: Callable[[Path], None], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mask{suffix}"
        write(path)
        return path.read_bytes()
