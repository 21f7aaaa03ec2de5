"""Contracts of the extension points: inherit a class, and pytest runs its tests on your class.

Requires the packages of `isoline[testing]`.
"""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{each}" for each in ("engines", "exports", "models", "sources"))
)

from isoline.testing.contracts.array_scene import ArrayScene  # noqa: E402
from isoline.testing.contracts.engines import EngineContract  # noqa: E402
from isoline.testing.contracts.exports import (  # noqa: E402
    EncoderContract,
    MaskEncoderContract,
    Seen,
)
from isoline.testing.contracts.models import (  # noqa: E402
    ModelContract,
    PromptableModelContract,
    VolumeModelContract,
)
from isoline.testing.contracts.sources import (  # noqa: E402
    SourceContract,
    VolumeSourceContract,
)

__all__ = [
    "ArrayScene",
    "EncoderContract",
    "EngineContract",
    "MaskEncoderContract",
    "ModelContract",
    "PromptableModelContract",
    "Seen",
    "SourceContract",
    "VolumeModelContract",
    "VolumeSourceContract",
]
