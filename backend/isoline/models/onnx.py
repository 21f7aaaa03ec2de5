"""ONNX Runtime sessions on a worker's device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime


def session(graph: Path, device: str) -> onnxruntime.InferenceSession:
    """Load `graph` onto `device`: "cpu", with one thread, or "cuda:N"."""
    import onnxruntime  # here, so that listing models loads no runtime

    options = onnxruntime.SessionOptions()
    # worker processes share the cores; threads within one would compete for them
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(graph), options, providers=_providers(device))


def _providers(device: str) -> list[str | tuple[str, dict[str, int]]]:
    """Return ONNX Runtime's execution providers for `device`, the CPU last."""
    if device.startswith("cuda"):
        _, _, index = device.partition(":")
        return [("CUDAExecutionProvider", {"device_id": int(index or 0)}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
