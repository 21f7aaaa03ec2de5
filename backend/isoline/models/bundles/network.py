"""The network of a bundle, loaded: windows in, a value per class and voxel out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isoline.errors import Broken
from isoline.extras import radiology
from isoline.models import devices
from isoline.models.bundles import code
from isoline.models.bundles.files import Bundle


class Network:
    """TorchScript, or the module that the configuration builds where it may run code."""

    def __init__(self, bundle: Bundle, device: str, mixed_precision: bool) -> None:
        """Load it onto `device`: "cpu" or "cuda:N". Raises Broken."""
        with radiology():
            import torch
        self._torch = torch
        devices.whole_float32(device)
        self._device = torch.device(device)
        self._half = mixed_precision and self._device.type == "cuda"
        try:
            if bundle.torchscript is not None:
                load = torch.jit.load
                self._module = load(bundle.weights, map_location=self._device)  # type: ignore[no-untyped-call]
            else:
                self._module = code.network(bundle).to(self._device)
        except (RuntimeError, ValueError, OSError) as error:
            raise Broken(f"the network of {bundle.path.name} cannot be loaded: {error}") from error
        self._module.eval()

    def use_one_core(self) -> None:
        """Let each call compute on the thread that makes it."""
        self._torch.set_num_threads(1)

    def __call__(
        self, windows: NDArray[np.float32], axes: tuple[int, int, int]
    ) -> NDArray[np.float32]:
        """Return (n, classes, k, j, i) for (n, k, j, i) windows. Raises Broken.

        `axes` says which of k, j and i (0, 1 and 2) the network's first, second and third axis is.
        """
        torch = self._torch
        turned = np.ascontiguousarray(windows.transpose(0, *(1 + axis for axis in axes)))
        # what is optimised on the way differs from run to run in the last bits
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            with torch.autocast(self._device.type, enabled=self._half):
                answer = self._module(torch.from_numpy(turned)[:, None].to(self._device))
            if isinstance(answer, list | tuple):
                answer = answer[0]  # further ones are those of deep supervision
            if not isinstance(answer, torch.Tensor):
                raise Broken(f"the network gives {type(answer).__name__}, not a tensor")
            values = np.asarray(answer.float().cpu(), np.float32)
        if values.shape[2:] != turned.shape[1:]:
            raise Broken(
                f"the network gives {values.shape[2:]} for a window of {turned.shape[1:]}",
                "isoline runs networks whose output is as large as their input",
            )
        back = values.transpose(0, 1, *(2 + axes.index(axis) for axis in range(3)))
        return np.asarray(back, np.float32)
