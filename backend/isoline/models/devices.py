"""Finding the GPUs of this machine without loading a runtime."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
from pathlib import Path

from isoline.errors import Malformed

AUTO, CPU = "auto", "cpu"


def gpus(wanted: str) -> tuple[str, ...]:
    """Return the GPUs that `engine.device` selects, as "cuda:N"; empty if everything runs on the
    CPU.

    "auto" selects every GPU that the driver reports and the installed torch can use. Raises
    Malformed for an unknown value.
    """
    if wanted == CPU:
        return ()
    if wanted == AUTO:
        return tuple(f"cuda:{n}" for n in range(_count() if _torch_has_cuda() else 0))
    if wanted == "cuda":
        return ("cuda:0",)
    if re.fullmatch(r"cuda:\d+", wanted):
        return (wanted,)
    raise Malformed(f"engine.device: {wanted!r} is not a device", "choose auto, cpu or cuda:N")


def _count() -> int:
    """Return the CUDA driver's device count, which respects CUDA_VISIBLE_DEVICES."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    is_up = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if is_up else 0


def _torch_has_cuda() -> bool:
    """Return whether torch was built with CUDA, without importing it, which takes seconds."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    built = Path(found.origin).with_name("version.py")
    return built.is_file() and bool(re.search(r"^cuda\b.*= *'", built.read_text(), re.MULTILINE))


def whole_float32(device: str) -> None:
    """Make a GPU compute in full float32 and deterministically, in this process."""
    if device.startswith("cuda"):
        import torch

        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
