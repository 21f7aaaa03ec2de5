"""A sanitised copy of an nnInteractive checkpoint folder for the package to open.

The package unpickles the checkpoint and imports the classes that plans.json names. Therefore each
file is read once and must have the sha256 that its model pins; the checkpoint is loaded as tensors
and plain values only, and rewritten with only what the network needs; and plans.json may name only
the components of nnU-Net's own networks.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isoline.errors import WeightsMissing
from isoline.models.base import OwnFile

CHECKPOINT = "fold_0/checkpoint_final.pth"
_TRAINER = "nnInteractiveTrainer_stub"
"""The trainer that builds the network as plans.json describes it."""
_NETWORKS = "dynamic_network_architectures.architectures."
_IMPORTS = frozenset(
    (
        *(f"{_NETWORKS}unet.{name}" for name in ("PlainConvUNet", "ResidualEncoderUNet")),
        f"{_NETWORKS}residual_unet.ResidualEncoderUNet",
        *(f"torch.nn.modules.conv.Conv{n}d" for n in (2, 3)),
        *(f"torch.nn.modules.instancenorm.InstanceNorm{n}d" for n in (2, 3)),
        "torch.nn.LeakyReLU",
        None,
    )
)


@contextmanager
def harmless_copy(files: Sequence[OwnFile], paths: Mapping[str, Path]) -> Iterator[Path]:
    """Yield a temporary private folder with sanitised copies of `files`, found at `paths`.

    Raises WeightsMissing if one of them is not as expected.
    """
    with tempfile.TemporaryDirectory(prefix="isoline-nninteractive-") as name:
        folder = Path(name)
        for file in files:
            inside = file.file.partition("/")[2]
            content = paths[file.file].read_bytes()
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise _refused(file, "its sha256 differs")
            try:
                harmless = _checkpoint(content) if inside == CHECKPOINT else _json(inside, content)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise _refused(file, str(error)) from error
            (folder / inside).parent.mkdir(exist_ok=True)
            (folder / inside).write_bytes(harmless)
        yield folder


def _refused(file: OwnFile, why: str) -> WeightsMissing:
    return WeightsMissing(
        f"{file.file} in the weights directory cannot be used: {why}", file.source
    )


def _checkpoint(content: bytes) -> bytes:
    """Return a checkpoint with the weights in `content` and the two strings the package reads."""
    import torch

    try:
        with torch.serialization.safe_globals(_scalars()):
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or malicious pickle may raise anything
        raise ValueError(f"it is not a checkpoint of tensors and plain values ({error})") from error
    weights: Mapping[str, Any] = found["network_weights"]
    if not all(type(tensor) is torch.Tensor for tensor in weights.values()):
        raise ValueError("its weights are not tensors")
    harmless = io.BytesIO()
    torch.save(
        {
            "trainer_name": _TRAINER,
            "init_args": {"configuration": str(found["init_args"]["configuration"])},
            "network_weights": {str(name): tensor for name, tensor in weights.items()},
        },
        harmless,
    )
    return harmless.getvalue()


def _scalars() -> list[Any]:
    """Return the globals that a pickle of NumPy scalars, which nnU-Net logs, refers to."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    types = (np.float64, np.float32, np.int64)
    return [
        np.dtype,
        *(type(np.dtype(each)) for each in types),
        *((scalar, name) for name in names),
    ]


def _json(name: str, content: bytes) -> bytes:
    """Return `content` unchanged. Raises ValueError if it names anything unsafe to import."""
    parsed = json.loads(content)
    if name == "plans.json":
        _check_plans(parsed)
    if name == "dataset.json" and len(parsed["channel_names"]) != 1:
        raise ValueError("it belongs to a network for images with several channels")
    return content


def _check_plans(plans: Mapping[str, Any]) -> None:
    if plans.get("label_manager", "LabelManager") != "LabelManager":
        raise ValueError(f"it names {plans['label_manager']!r}, which is not allowed")
    for configuration in plans["configurations"].values():
        architecture = configuration.get("architecture", {})
        arguments = architecture.get("arch_kwargs", {})
        imports = [arguments[key] for key in architecture.get("_kw_requires_import", ())]
        for wanted in (architecture.get("network_class_name"), *imports):
            if wanted not in _IMPORTS:
                raise ValueError(f"it names {wanted!r}, which is not part of a known network")
