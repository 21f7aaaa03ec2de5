"""Brain extraction from any head scan: SynthStrip (Hoopes et al., NeuroImage 260, 2022).

The network maps a head at 1 mm, in LIA order, to the signed distance from the brain's border; the
brain is where the distance is below `border`. A preview pass at 2 mm costs an eighth as much and
shows where the brain is; the full-resolution pass follows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cc3d
import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Label
from isoline.errors import BadSeries
from isoline.extras import radiology
from isoline.geometry.reorient import Orientation
from isoline.geometry.volume_grid import VolumeGrid
from isoline.models import devices
from isoline.models.base import ModelSpec, Number, Voxels, Weights
from isoline.models.volumetric import Scan, Step, VolumeModel, give

if TYPE_CHECKING:
    from torch import Tensor

SPACINGS_MM = (2.0, 1.0)
"""The spacing of the preview, and the spacing that the network was trained on."""
LEVELS = 7
_SIDE = 2 ** (LEVELS - 1)
"""Inputs are padded to a multiple of this along each axis."""
_LEAST_MM, _MOST_MM = 80.0, 600.0
"""Smallest and largest plausible extent of a head scan along each axis."""
_CHUNK_MACS, _CHUNK_VALUES = 2e9, 4e6
"""Most multiplications, and most values produced, between two checks for cancellation."""


class Brain(VolumeModel):
    """SynthStrip with its published weights."""

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="brain",
        title="Brain (SynthStrip)",
        description="The brain in a head scan of any modality: MR of any contrast, CT, PET.",
        version="1",
        labels=(Label("Brain", (255, 170, 60), ("12738006", "Brain")),),
        output=Voxels(),
        on_gpu=True,
        parameters=(
            Number("border", 1.0, -5.0, 10.0, "How far the mask reaches beyond the brain, in mm."),
        ),
        weights=(
            Weights(
                file="synthstrip-1.pt",
                sha256="ae8034c791de0931e120bdb7fe1dba5c5222d0573ba059f836aca8e63541e3b9",
                requirement="deepsurfer==0.1.1a5",
                archive_sha256="a45b0f72b240f8078fc90d4b6f9db53e98a77f4f81cf2846b79a1001619e5943",
                member="deepsurfer-0.1.1a5/deepsurfer/resource/models/synthstrip-1.pt",
                binary=False,
            ),
        ),
        licence="MIT",
        cite="https://doi.org/10.1016/j.neuroimage.2022.119474",
    )

    def __init__(self, weights: Mapping[str, Path], device: str) -> None:
        """Load the network onto `device`: "cpu" or "cuda:N"."""
        with radiology():
            import torch  # here, so that listing models loads no runtime
        devices.whole_float32(device)
        self._device = device
        stored = torch.load(weights["synthstrip-1.pt"], map_location=device, weights_only=True)
        self._network = {
            name.partition(".")[2]: tensor for name, tensor in stored["model_state_dict"].items()
        }

    def segment(self, scan: Scan) -> Iterator[Step]:
        import torch

        _check_head(scan.grid)
        torch.set_num_threads(scan.threads)
        border = float(scan.parameters["border"])
        inputs = [_Input.of(scan, spacing) for spacing in SPACINGS_MM]
        work = [macs(self._network, each.shape) for each in inputs]
        behind = 0.0
        for number, each in enumerate(inputs):
            is_last = number == len(inputs) - 1
            layers = run(self._network, each.values, self._device)
            distance = None
            while distance is None:
                try:
                    # the last hundredth is for the steps after the network
                    yield Step(0.99 * (behind + next(layers)) / sum(work))
                except StopIteration as end:
                    distance = end.value
            behind += work[number]
            labels = each.labels(distance, scan.grid, border)
            done = 1.0 if is_last else 0.99 * behind / sum(work)
            yield from give(labels, scan.focus, provisional=not is_last, done=done)


def _check_head(grid: VolumeGrid) -> None:
    extent = np.array(grid.size) * grid.spacing_mm
    if extent.min() < _LEAST_MM or extent.max() > _MOST_MM:
        raise BadSeries(
            "the scan measures {:.0f} x {:.0f} x {:.0f} mm".format(*extent),
            f"brain needs a whole head: {_LEAST_MM:.0f} to {_MOST_MM:.0f} mm along each axis",
        )


@dataclass(frozen=True)
class _Input:
    """A scan in the form that the network expects: LIA order, isotropic, scaled to 0 .. 1,
    padded."""

    values: NDArray[np.float32]
    """(L, I, A), including the padding."""
    inner: tuple[slice, slice, slice]
    """The part of `values` that holds the scan."""
    orientation: Orientation

    @property
    def shape(self) -> tuple[int, int, int]:
        a, b, c = self.values.shape
        return a, b, c

    @classmethod
    def of(cls, scan: Scan, spacing_mm: float) -> _Input:
        orientation = Orientation.towards("LIA", scan.grid)
        turned = orientation.turn(np.asarray(scan.voxels, np.float32))
        spacing = np.array(scan.grid.spacing_mm)[::-1][list(orientation.axes)]
        size = np.maximum(1, np.rint(np.array(turned.shape) * spacing / spacing_mm)).astype(int)
        values = _resampled(turned, size)
        whole = -(-size // _SIDE) * _SIDE
        before = (whole - size) // 2
        values = values - values.min()
        values = np.clip(values / max(float(np.quantile(values, 0.999)), 1e-6), 0, 1)
        padded = np.zeros(whole, np.float32)
        inner = tuple(slice(int(a), int(a + n)) for a, n in zip(before, size, strict=True))
        padded[inner] = values
        return cls(padded, (inner[0], inner[1], inner[2]), orientation)

    def labels(
        self, distance: NDArray[np.float32], grid: VolumeGrid, border: float
    ) -> NDArray[np.uint8]:
        """Return (k, j, i) labels on `grid` from the network's output (L, I, A) in mm."""
        size = np.array(grid.shape)[list(self.orientation.axes)]
        fitted = self.orientation.back(_resampled(distance[self.inner], size))
        return _brain_of(np.ascontiguousarray(fitted) < border)


def _resampled(values: NDArray[np.generic], size: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return `values` resampled trilinearly to `size` voxels over the same extent."""
    import torch

    if values.shape == tuple(size):
        return np.ascontiguousarray(values, np.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    fitted = torch.nn.functional.interpolate(
        tensor, tuple(size.tolist()), mode="trilinear", align_corners=False
    )
    resampled: NDArray[np.float32] = fitted[0, 0].numpy()
    return resampled


def _brain_of(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the largest 6-connected component of `inside`, with its holes filled, as 0 and 1."""
    parts = cc3d.largest_k(inside, k=1, connectivity=6)
    outside = np.pad(parts == 0, 1, constant_values=True)
    around: NDArray[Any] = cc3d.connected_components(outside, connectivity=6)
    filled: NDArray[np.bool_] = (around != around[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled.astype(np.uint8)


# --- The network: a U-Net that can be interrupted between parts of a layer ---------------------

_Network = Mapping[str, "Tensor"]


def macs(network: _Network, shape: tuple[int, int, int]) -> float:
    """Return the number of multiplications that the network needs for an input of `shape`."""
    voxels = float(shape[0] * shape[1] * shape[2])
    return sum(
        tensor.numel() * voxels / 8.0 ** _level(name)
        for name, tensor in network.items()
        if name.endswith(".weight")
    )


def run(
    network: _Network, values: NDArray[np.float32], device: str
) -> Generator[float, None, NDArray[np.float32]]:
    """Yield the number of multiplications done so far, several times a second; return the output.

    `values` is (L, I, A), each side a multiple of 64; the output has the same shape.
    """
    import torch
    from torch.nn import functional

    done = 0.0
    x = torch.from_numpy(values)[None, None].to(device)
    skips: list[Tensor] = []
    for level in range(LEVELS):
        for conv in _convs(network, f"encoder.{level}"):
            x, done = yield from _convolve(network, conv, x, done)
        if level < LEVELS - 1:
            skips.append(x)
            with torch.inference_mode():
                x = functional.max_pool3d(x, 2)
    for level in range(LEVELS - 1):
        with torch.inference_mode():
            larger = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = torch.cat([larger, skips.pop()], 1)
            del larger
        for conv in _convs(network, f"decoder.{level}"):
            x, done = yield from _convolve(network, conv, x, done)
    answer: NDArray[np.float32] = x[0, 0].cpu().numpy()
    return answer


def _convolve(
    network: _Network, conv: str, x: Tensor, done: float
) -> Generator[float, None, tuple[Tensor, float]]:
    """Convolve slab by slab along the first axis, so that no single call takes long."""
    import torch
    from torch.nn import functional

    weight, bias = network[f"{conv}.weight"], network[f"{conv}.bias"]
    depth = x.shape[2]
    macs_each = weight.numel() * x.shape[3] * x.shape[4]
    values_each = weight.shape[0] * x.shape[3] * x.shape[4]
    slab = max(1, min(depth, int(_CHUNK_MACS / macs_each), int(_CHUNK_VALUES / values_each)))
    slab = depth if x.is_cuda else slab
    is_last = weight.shape[0] == 1
    with torch.inference_mode():
        made = torch.empty((1, weight.shape[0], *x.shape[2:]), device=x.device)
    for first in range(0, depth, slab):
        last = min(depth, first + slab)
        with torch.inference_mode():
            around = x[:, :, max(0, first - 1) : min(depth, last + 1)]
            beyond = (1, 1, 1, 1, int(first == 0), int(last == depth))
            part = functional.conv3d(functional.pad(around, beyond), weight, bias)
            made[:, :, first:last] = part if is_last else functional.leaky_relu(part, 0.2)
        done += macs_each * (last - first)
        yield done
    return made, done


def _convs(network: _Network, block: str) -> list[str]:
    """Return the names of the convolutions of `block`, in order."""
    found = {name.rpartition(".")[0] for name in network if name.startswith(f"{block}.")}
    return sorted(found, key=lambda name: int(name.split(".")[2]))


def _level(name: str) -> int:
    """Return how many times the input has been halved at the layer `name`."""
    half, level, *_ = name.split(".")
    return int(level) if half == "encoder" else LEVELS - 2 - int(level)
