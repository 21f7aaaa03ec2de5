"""The content of a MONAI bundle: its metadata, its inference configuration and its weights.

A bundle is a directory in MONAI's layout (`configs/metadata.json`, `configs/inference.json`,
`models/model.ts` or `models/model.pt`), or one TorchScript file that contains both
configurations, as written by `python -m monai.bundle ckpt_export`.

https://docs.monai.io/en/stable/mb_specification.html
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from isoline.errors import Broken
from isoline.models.downloads import digest

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


_METADATA, _INFERENCE = "metadata", "inference"
_SUFFIXES = (".json", ".yaml", ".yml")
_TORCHSCRIPT, _STATE = "models/model.ts", "models/model.pt"


@dataclass(frozen=True)
class Bundle:
    """[bundles.NAME]: the location of a bundle, and whether its configuration may run code."""

    path: Path
    """A directory or a TorchScript file."""
    run_code: bool = False
    """Whether `_target_` and `$` in its configuration are executed; if so, its author can run any
    code on this machine."""

    @property
    def torchscript(self) -> Path | None:
        """The path of the TorchScript network, None if the bundle has none."""
        path = self.path / _TORCHSCRIPT if self.path.is_dir() else self.path
        return path if path.is_file() else None

    @property
    def weights(self) -> Path:
        """The file with the weights. Raises Broken if there is none that may be used."""
        if (network := self.torchscript) is not None:
            return network
        state = self.path / _STATE
        if not state.is_file():
            raise Broken(
                f"{self.path.name} has neither {_TORCHSCRIPT} nor {_STATE}",
                "download the whole bundle",
            )
        if not self.run_code:
            raise Broken(
                f"{self.path.name} has no {_TORCHSCRIPT}, and loading {_STATE} requires running"
                " the configuration's code",
                "export it with `python -m monai.bundle ckpt_export`, or set run_code = true",
            )
        return state

    def signature(self) -> tuple[tuple[str, int, int], ...]:
        """Return the name, size and modification time of each file that the model depends on.

        Raises Broken if the weights are missing.
        """
        files = [self.weights]
        if self.path.is_dir():
            files += sorted((self.path / "configs").glob("*"))
        states = [(file.name, file.stat()) for file in files]
        return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)

    def stamp(self) -> str:
        """Return the first 16 digits of the sha256 of the weights and of the configurations."""
        path = self.weights
        state = path.stat()
        weights = digest(path, state.st_size, state.st_mtime_ns)
        described = json.dumps([self.metadata(), self.inference()], sort_keys=True).encode()
        return f"{weights[:16]}+{hashlib.sha256(described).hexdigest()[:16]}"

    def metadata(self) -> dict[str, JSON]:
        """Return the bundle's metadata. Raises Broken."""
        found = self._read(_METADATA)
        if found is None:
            raise Broken(
                f"{self.path.name} has no metadata",
                "a bundle has configs/metadata.json, or its TorchScript file contains it",
            )
        return found

    def inference(self) -> dict[str, JSON]:
        """Return the inference configuration, empty if there is none. Raises Broken."""
        return self._read(_INFERENCE) or {}

    def _read(self, name: str) -> dict[str, JSON] | None:
        """Return one configuration, None if it does not exist."""
        try:
            texts = self._in_directory(name) if self.path.is_dir() else self._in_archive(name)
            for suffix, text in texts.items():
                return _mapping(_parsed(text, suffix), name)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise Broken(
                f"{self.path.name}: {name} cannot be read: {error}", "fix or replace the bundle"
            ) from error
        return None

    def _in_directory(self, name: str) -> Mapping[str, str]:
        files = (self.path / "configs" / f"{name}{suffix}" for suffix in _SUFFIXES)
        return {file.suffix: file.read_text("utf-8") for file in files if file.is_file()}

    def _in_archive(self, name: str) -> Mapping[str, str]:
        """Read an extra file from TorchScript, a zip file that holds them under `*/extra/`."""
        with zipfile.ZipFile(self.path) as archive:
            return {
                Path(member).suffix: archive.read(member).decode("utf-8")
                for member in archive.namelist()
                for suffix in _SUFFIXES
                if member.endswith(f"/extra/{name}{suffix}")
            }


def _parsed(text: str, suffix: str) -> JSON:
    if suffix == ".json":
        parsed: JSON = json.loads(text)
        return parsed
    try:
        import yaml
    except ImportError as error:
        raise Broken("the bundle is written in YAML", "run `pip install pyyaml`") from error
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return parsed


def _mapping(parsed: JSON, name: str) -> dict[str, JSON]:
    if not isinstance(parsed, dict):
        raise ValueError(f"{name} is not a mapping")
    return parsed
