"""Brain extraction with its real weights, at 2 mm and on a network of the same shape made small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from isoline.errors import BadSeries
from isoline.geometry.volume_grid import VolumeGrid
from isoline.models import brain
from isoline.models.brain import Brain
from isoline.models.volumetric import Scan, VolumeModel
from isoline.testing.contracts import VolumeModelContract
from tests import volumes
from tests.conftest import fetched

pytestmark = pytest.mark.slow

HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")
BET = HEAD.with_name("ch2bet.nii.gz")
SMALL = volumes.grid((30, 24, 26), (5.0, 6.0, 5.5), volumes.turned(0.3, 1.4, -0.2))


def small_network() -> dict[str, torch.Tensor]:
    """The layers of SynthStrip with a channel or two each: the answer is -10 where it is bright."""
    rng = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, int]] = {}
    made = 1
    for level in range(brain.LEVELS):
        for conv in range(2):
            shapes[f"unet.encoder.{level}.{conv}.conv"] = (2, made)
            made = 2
    for level in range(brain.LEVELS - 1):
        shapes[f"unet.decoder.{level}.0.conv"] = (2, 4)
        shapes[f"unet.decoder.{level}.1.conv"] = (2, 2)
    shapes[f"unet.decoder.{brain.LEVELS - 2}.2.conv"] = (1, 2)
    network = {}
    for name, (out, into) in shapes.items():
        network[f"{name}.weight"] = torch.randn(out, into, 3, 3, 3, generator=rng) / 5
        network[f"{name}.bias"] = torch.randn(out, generator=rng) / 5
    return network


@pytest.fixture
def small(tmp_path: Path) -> Brain:
    torch.save({"model_state_dict": small_network()}, tmp_path / "w.pt")
    return Brain({"synthstrip-1.pt": tmp_path / "w.pt"}, "cpu")


@pytest.mark.slow
class TestBrain(VolumeModelContract):
    kind = Brain

    @pytest.fixture
    def model(self, small: Brain) -> VolumeModel:
        return small

    @pytest.fixture
    def scan(self) -> Scan:
        voxels = np.random.default_rng(0).random(SMALL.shape).astype(np.float32)
        return Scan(voxels, SMALL, "MR", {"border": 1.0}, 3)


def answer(network: Mapping[str, torch.Tensor], values: NDArray[np.float32]) -> NDArray[np.float32]:
    steps = brain.run(network, values, "cpu")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return np.asarray(end.value)


def plain(network: Mapping[str, torch.Tensor], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The network as its authors wrote it down, layer by layer on the whole."""
    from torch.nn import functional as f

    def block(x: torch.Tensor, name: str, count: int, last: bool = False) -> torch.Tensor:
        for conv in range(count):
            weight, bias = (network[f"{name}.{conv}.conv.{each}"] for each in ("weight", "bias"))
            x = f.conv3d(x, weight, bias, padding=1)
            x = x if last and conv == count - 1 else f.leaky_relu(x, 0.2)
        return x

    x, skips = torch.from_numpy(values)[None, None], []
    for level in range(7):
        x = block(x, f"encoder.{level}", 2)
        if level < 6:
            skips.append(x)
            x = f.max_pool3d(x, 2)
    for level in range(6):
        x = torch.cat([f.interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], 1)
        x = block(x, f"decoder.{level}", 3 if level == 5 else 2, last=level == 5)
    return np.asarray(x[0, 0].detach())


def test_slabs_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    network = {name.partition(".")[2]: each for name, each in small_network().items()}
    values = np.random.default_rng(1).random((64, 64, 128)).astype(np.float32)
    for chunk in (1e5, 1e12):
        monkeypatch.setattr(brain, "_CHUNK_MACS", chunk)
        np.testing.assert_allclose(answer(network, values), plain(network, values), atol=1e-5)


def test_the_work_is_what_was_foretold() -> None:
    network = {name.partition(".")[2]: each for name, each in small_network().items()}
    values = np.zeros((64, 64, 64), np.float32)
    assert list(brain.run(network, values, "cpu"))[-1] == brain.macs(network, (64, 64, 64))


@pytest.mark.parametrize("seed", range(6))
def test_however_the_scan_lies_the_network_sees_the_same_head(seed: int) -> None:
    """Axes turned, flipped and swapped: the input is the same, and the labels go back in place."""
    rng = np.random.default_rng(seed)
    head = rng.random((20, 22, 24)).astype(np.float32)
    affine = np.array([[0, 0, 5.0, -50], [0, -5.0, 0, 50], [-5.0, 0, 0, 50], [0, 0, 0, 1]])
    base = VolumeGrid.from_affine(affine, (24, 22, 20))
    axes, flips = rng.permutation(3), tuple(n for n in range(3) if rng.random() < 0.5)
    turned = np.flip(head.transpose(axes), flips)
    # index (k, j, i) of `turned` -> that of `head`
    back = np.eye(4)
    back[:3, :3] = 0
    for new, old in enumerate(axes):
        back[old, new] = -1 if new in flips else 1
        back[old, 3] = turned.shape[new] - 1 if new in flips else 0
    reverse = np.eye(4)[[2, 1, 0, 3]]
    where = VolumeGrid.from_affine(affine @ reverse @ back @ reverse, turned.shape[::-1])
    scans = (Scan(head, base, "", {}, 0), Scan(turned, where, "", {}, 0))
    one, other = (brain._Input.of(scan, 5.0) for scan in scans)
    np.testing.assert_array_equal(one.values, other.values)
    distance = np.where(one.values > 0.3, -1, 5).astype(np.float32)
    labels = (one.labels(distance, base, 1.0), other.labels(distance, where, 1.0))
    np.testing.assert_array_equal(np.flip(labels[0].transpose(axes), flips), labels[1])


def test_what_is_no_head_is_refused(small: Brain) -> None:
    grid = replace(SMALL, size=(3, 24, 26))
    with pytest.raises(BadSeries, match="15 x 144 x 143 mm"):
        next(small.segment(Scan(np.zeros((26, 24, 3), np.int16), grid, "", {"border": 1.0}, 0)))


@pytest.mark.slow
def test_a_real_head_at_2_mm() -> None:
    """The first impression, with the real weights, against BET: the axes are right."""
    if not HEAD.exists():
        pytest.skip("needs apt-get install mricron-data")
    from isoline.sources.nifti import NiftiSource

    model = Brain({"synthstrip-1.pt": fetched(Brain.spec.weights[0])}, "cpu")
    source = NiftiSource.open(HEAD)
    scan = Scan(source.voxels(), source.volume.grid, "MR", {"border": 1.0}, 90)
    found = np.zeros(source.voxels().shape, np.bool_)
    for step in model.segment(scan):
        if step.labels is not None:
            found[list(step.slices)] = step.labels == 1
            if step.provisional and found.any(axis=(1, 2)).sum() and 0 in step.slices:
                break
    bet = NiftiSource.open(BET).voxels().astype(bool)
    assert 2 * (found & bet).sum() / (found.sum() + bet.sum()) > 0.8
