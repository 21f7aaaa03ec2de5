"""A bundle's network, loaded: takes windows and returns a value per class and voxel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isoline.errors import Broken
from isoline.extras import radiology
from isoline.models import devices
from isoline.models.bundles import code
from isoline.models.bundles.files import Bundle


class Network:
    """A TorchScript module, or the module built by a configuration that may run code."""

    def __init__(self, bundle: Bundle, device: str, mixed_precision: bool) -> None:
        """Load the network onto `device`: "cpu" or "cuda:N". Raises Broken."""
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
        """Make each call compute on its calling thread only."""
        self._torch.set_num_threads(1)

    def __call__(
        self, windows: NDArray[np.float32], axes: tuple[int, int, int]
    ) -> NDArray[np.float32]:
        """Return (n, classes, k, j, i) for (n, k, j, i) windows. Raises Broken.

        `axes` gives the array axis (0, 1, 2 for k, j, i) of each of the network's three axes.
        """
        torch = self._torch
        turned = np.ascontiguousarray(windows.transpose(0, *(1 + axis for axis in axes)))
        # TorchScript's optimisations change the last bits from run to run
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            with torch.autocast(self._device.type, enabled=self._half):
                answer = self._module(torch.from_numpy(turned)[:, None].to(self._device))
            if isinstance(answer, list | tuple):
                answer = answer[0]  # the others come from deep supervision
            if not isinstance(answer, torch.Tensor):
                raise Broken(f"the network returns {type(answer).__name__}, not a tensor")
            values = np.asarray(answer.float().cpu(), np.float32)
        if values.shape[2:] != turned.shape[1:]:
            raise Broken(
                f"the network returns {values.shape[2:]} for a window of {turned.shape[1:]}",
                "isoline runs only networks whose output is as large as their input",
            )
        back = values.transpose(0, 1, *(2 + axes.index(axis) for axis in range(3)))
        return np.asarray(back, np.float32)
