"""A disk cache of surveys of whole images, so that an image is surveyed once per model."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from isoline.engines.engine import Agenda, Engine
from isoline.geometry.grid import XY
from isoline.inference.tiles import Survey, TiledTask, TissueMap

log = logging.getLogger(__name__)

_STATISTICS = "statistics."
_EDITION = 2
"""Changes whenever models estimate their statistics in another way."""


class Surveys:
    """A directory of surveys, each a .npz file named by a hash of everything it depends on."""

    def __init__(self, directory: Path, note: Callable[[bool], None] = lambda _: None) -> None:
        """Store surveys below `directory`; `note` is called with whether each one was cached."""
        self._directory = directory
        self._note = note

    def get(self, task: TiledTask, engine: Engine, agenda: Agenda) -> Survey | None:
        """Return the survey of the image of `task` for its model, from disk or from `engine`.

        Returns None if `agenda`, which waits for it, is cancelled meanwhile. The survey is empty,
        and costs nothing, for a model that does not need one.
        """
        spec = task.spec
        if not (spec.has_statistics or spec.skips_glass):
            return Survey(None)
        path = self._directory / f"{_key(task)}.npz"
        try:
            remembered = _load(path)
            self._note(True)
            return remembered
        except (OSError, zipfile.BadZipFile, ValueError, KeyError, EOFError):
            self._note(False)
            survey = engine.survey(task, agenda)  # missing, or damaged on disk
        if survey is None:
            return None
        assert isinstance(survey, Survey)
        try:
            _save(path, survey)
        except OSError as error:  # the next job surveys the image again
            log.info("no survey can be stored in %s: %s", self._directory, error.strerror)
        return survey


def _key(task: TiledTask) -> str:
    basis = [
        _EDITION,
        task.fingerprint,
        task.scope.model,
        task.scope.version,
        list(task.plane.grid.scale),
        list(task.plane.spacing_um or ()),
        repr(task.plane.selection),
        task.is_slide,
    ]
    return hashlib.blake2b(orjson.dumps(basis), digest_size=16).hexdigest()


def _load(path: Path) -> Survey:
    with np.load(path, allow_pickle=False) as stored:
        tissue = (
            TissueMap(stored["tissue"], XY(*map(float, stored["cell"])))
            if "tissue" in stored
            else None
        )
        statistics = {
            name.removeprefix(_STATISTICS): stored[name]
            for name in stored.files
            if name.startswith(_STATISTICS)
        }
        remarks = tuple(map(str, stored["remarks"]))
    return Survey(tissue, statistics, remarks)


def _save(path: Path, survey: Survey) -> None:
    arrays = {_STATISTICS + name: np.asarray(array) for name, array in survey.statistics.items()}
    if survey.tissue is not None:
        arrays |= {"tissue": survey.tissue.mask, "cell": np.asarray(survey.tissue.cell)}
    arrays["remarks"] = np.array(survey.remarks, np.str_)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        Path(temporary).replace(path)  # atomic: readers see the complete survey or none
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
