"""The one catalogue of models: installed models and configured MONAI bundles.

It is built once, at start-up, and passed to everything that looks up a model by name: the pipeline,
the HTTP routes and, since it is small and picklable, each worker process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from isoline.config.settings import Settings
from isoline.errors import Broken, IsolineError, UnknownModel
from isoline.models.base import Model, ModelSpec
from isoline.models.bundles.files import Bundle
from isoline.models.weights import weight_files
from isoline.plugins import Plugins

MODELS: Plugins[Model] = Plugins("model", UnknownModel)
"""The installed models."""


@dataclass(frozen=True)
class ModelCatalogue:
    """Models by name, and the location of their weights."""

    weights: Path
    """The directory that holds the models' files."""
    bundles: Mapping[str, Bundle] = field(default_factory=dict)
    """The configured MONAI bundles by model name, `bundle:NAME`."""

    @classmethod
    def of(cls, settings: Settings) -> ModelCatalogue:
        """Return the catalogue that `settings` describe."""
        bundles = {
            name: Bundle(given.path, given.run_code) for name, given in settings.bundles.items()
        }
        return cls(settings.weights, bundles)

    def names(self) -> tuple[str, ...]:
        """Return every name, including those of models that cannot be imported or used."""
        return (*MODELS.names(), *sorted(self.bundles))

    def get(self, name: str) -> type[Model]:
        """Return the model called `name`. A bundle is read again only if its files have changed.

        Raises UnknownModel, or Broken if the model cannot be imported or the bundle cannot be used.
        """
        if name in self.bundles:
            from isoline.models.bundles.model import bundle_model  # only if there are any

            bundle = self.bundles[name]
            return bundle_model(name, bundle, bundle.signature())
        return MODELS.load(name, self.bundles)

    def specs(self) -> dict[str, ModelSpec]:
        """Return the specs of all models that can be imported, by name."""
        found = {}
        for name in self.names():
            try:
                found[name] = self.get(name).spec
            except Broken:
                continue
        return found

    def files(self, spec: ModelSpec) -> Mapping[str, Path]:
        """Return the paths of the model's files by file name. Raises WeightsMissing or Broken."""
        return weight_files(spec, self.weights)

    def problem(self, spec: ModelSpec) -> str | None:
        """Return why the model cannot run on this machine at present, None if it can."""
        try:
            self.files(spec)
        except IsolineError as error:
            return str(error)
        return None
