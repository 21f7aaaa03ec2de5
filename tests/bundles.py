"""MONAI bundles for tests: tiny networks in MONAI's own layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WINDOW = (16, 12, 20)
"""Along R, A, S."""
SPACING = (1.6, 1.3, 2.0)


class Tiny(torch.nn.Module):
    """Two convolutions: enough that a voxel depends on its neighbours along every axis."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first = torch.nn.Conv3d(1, 4, (5, 3, 3), padding=(2, 1, 1))
        self.last = torch.nn.Conv3d(4, classes, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = 12 * self.last(torch.relu(self.first(x)))
        return answer


class Above(torch.nn.Module):
    """The reference model as a network: a voxel is above 200 or it is not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = (x - 0.35025) * 500  # logits are rounded to thousandths
        return torch.cat([-high, high], 1)


def tiny(classes: int = 3, seed: int = 1) -> Tiny:
    torch.manual_seed(seed)
    return Tiny(classes).eval()


def metadata(names: tuple[str, ...] = ("background", "liver", "tumour")) -> dict[str, Any]:
    return {
        "version": "0.3.1",
        "name": "Tiny liver",
        "description": "For tests.",
        "copyright": "nobody",
        "network_data_format": {
            "inputs": {
                "image": {"type": "image", "num_channels": 1, "spatial_shape": [16, 12, 20]}
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "num_channels": len(names),
                    "channel_def": {str(n): name for n, name in enumerate(names)},
                }
            },
        },
    }


def inference(
    *more: dict[str, Any],
    spacing: tuple[float, ...] | None = SPACING,
    sides: str = "RAS",
    overlap: float = 0.5,
) -> dict[str, Any]:
    """Return configs/inference.json, with `more` transforms of the intensities."""
    transforms: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": sides},
    ]
    if spacing is not None:
        transforms.append(
            {"_target_": "Spacingd", "keys": "image", "pixdim": list(spacing), "mode": "bilinear"}
        )
    transforms += more or ({**RANGE},)
    transforms.append({"_target_": "EnsureTyped", "keys": "image"})
    return {
        "imports": ["$import os"],
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "window": list(WINDOW),
        "network_def": {"_target_": "tests.bundles.Tiny", "classes": 3},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": "@window",
            "sw_batch_size": 3,
            "overlap": overlap,
            "mode": "gaussian",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing"},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
    }


RANGE = {
    "_target_": "ScaleIntensityRanged",
    "keys": "image",
    "a_min": -500,
    "a_max": 1500,
    "b_min": 0.0,
    "b_max": 1.0,
    "clip": True,
}


def write(
    folder: Path,
    said: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    network: torch.nn.Module | None = None,
    *,
    script: bool = True,
) -> Path:
    """Write a bundle directory, with TorchScript or with a state dict."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(said or metadata()))
    (folder / "configs" / "inference.json").write_text(json.dumps(config or inference()))
    network = network or tiny()
    if script:
        torch.jit.save(torch.jit.script(network), folder / "models" / "model.ts")
    else:
        torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder
