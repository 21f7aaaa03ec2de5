"""What every upload has: required parts, and a manifest that seals them."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Part: TypeAlias = tuple[int, ...]
"""The key of a part: (level, column, row) of a tile, (k,) of a slice."""

M = TypeVar("M", bound="UploadManifest")


@dataclass(frozen=True, kw_only=True)
class UploadManifest(ABC):
    """The metadata of an upload, without its values."""

    fingerprint: str = ""
    """Digest of all values, once they have arrived."""

    noun: ClassVar[str]
    """What a part is called in messages."""
    file_name: ClassVar[str]
    """The file in which the manifest is stored."""

    @property
    @abstractmethod
    def parts(self) -> Iterator[Part]:
        """Yield the key of every required part."""

    @abstractmethod
    def has(self, part: Part) -> bool:
        """Return whether `part` is one of `parts`."""

    @abstractmethod
    def decode(self, part: Part, body: bytes) -> NDArray[np.generic]:
        """Return the values of `part`, which was sent as `body`.

        Raises Malformed if they do not fit, before anything is decoded.
        """

    @abstractmethod
    def part_file(self, part: Part) -> str:
        """Return the name of the file of `part`, beside the manifest."""

    def with_fingerprint(self: M, fingerprint: str) -> M:
        return dataclasses.replace(self, fingerprint=fingerprint)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)
