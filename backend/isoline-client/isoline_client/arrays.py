"""NumPy, imported when it is first used: clients that use no arrays do not need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray as NDArray

    Pixels: TypeAlias = NDArray[np.generic]
    """Pixels or voxels; docstrings name the axes."""
    Labels: TypeAlias = NDArray[np.integer]
    """(k, j, i); 0 is no label."""
    Inside: TypeAlias = NDArray[np.bool_]
    """(j, i); true inside the object."""
else:
    Pixels = Labels = Inside = Any

    class _WhenUsed:
        def __getattr__(self, name: str) -> Any:
            try:
                import numpy
            except ImportError as error:
                raise ImportError("arrays need NumPy; run `pip install numpy`") from error
            return getattr(numpy, name)

    np = _WhenUsed()

__all__ = ["Inside", "Labels", "Pixels", "np"]
