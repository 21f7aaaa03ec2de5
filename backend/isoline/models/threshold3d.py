"""The reference model for volumes: voxels within a range of values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from isoline.domain.events import Label
from isoline.models.base import ModelSpec, Number, Voxels
from isoline.models.volumetric import Scan, Step, VolumeModel, outward


class Threshold3D(VolumeModel):
    """Foreground is every voxel from `above` to `below`, in the units of the modality."""

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="threshold3d",
        title="Threshold (volume)",
        description="Voxels between two values: Hounsfield units in CT, stored values in MR.",
        version="1",
        labels=(Label("Foreground", (228, 26, 28)),),
        output=Voxels(),
        parameters=(
            Number("above", 200, -100000, 100000, "Foreground where value >= above."),
            Number("below", 100000, -100000, 100000, "Foreground where value <= below."),
        ),
    )

    def segment(self, scan: Scan) -> Iterator[Step]:
        above, below = float(scan.parameters["above"]), float(scan.parameters["below"])
        given = 0
        for slices in outward(len(scan.voxels), scan.focus):
            values = np.asarray(scan.voxels[list(slices)], np.float32)
            labels = ((values >= above) & (values <= below)).astype(np.uint8)
            given += len(slices)
            yield Step(given / len(scan.voxels), slices, labels)
