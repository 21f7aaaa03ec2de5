"""nnInteractive: points, boxes, strokes and lassos in volumes, through its own package.

The package keeps a preprocessed image and the interactions so far in a session. Here the image is
preprocessed once and cached, and so is the compressed state after each prompt: a request whose
prompts continue those of an earlier one runs the network for the new prompts only, and undoing a
prompt does not run it at all.

Isensee et al., nnInteractive: Redefining 3D Promptable Segmentation (2025), arXiv:2503.08373.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from isoline import extras
from isoline.domain.events import Label
from isoline.domain.prompts import KINDS, Prompt
from isoline.errors import Broken
from isoline.models import devices
from isoline.models.base import ModelSpec, OwnFile
from isoline.models.nninteractive import voxelise
from isoline.models.nninteractive.checkpoint import CHECKPOINT, harmless_copy
from isoline.models.promptable import (
    Bool,
    ImageView,
    Index,
    PromptableModel,
    PromptedObject,
    Question,
    Window,
    overlap,
)

_SOURCE = (
    "run `nninteractive-download-model nnInteractive_v1.0 --model-dir .` and put the folder"
    " models/nnInteractive_v1.0 that it makes under the server's data directory as"
    " weights/nninteractive; its licence, CC BY-NC-SA 4.0, allows no commercial use"
)
_PINNED = (
    ("plans.json", "64a30a430438302a692a3edadd345a207b3428bea2e5cdc125298757da21f4d4"),
    ("dataset.json", "e090394ac539b2823b2135173658190245c462cb042d3442487e4829f08252c4"),
    (
        "inference_session_class.json",
        "8f43587a9d139fcf7af8776219e9432dab079f985cb0d7da72a4c851b39a4f09",
    ),
    (CHECKPOINT, "b3ac4421f85457bbd1aa0d87f5e67bcb7bc8e2ce6b824b6ac45077cc5d630ea9"),
)
"""The sha256 of the files of nnInteractive_v1.0, as its authors published them."""


@dataclass(frozen=True)
class _Prepared:
    """An image, preprocessed in a session of its own."""

    session: Any
    """Its interactions are those of the latest request; `_restore` resets them from a `_State`."""
    voxels: NDArray[np.float32]
    """The session's copy of the image; the cache uses it to determine the size."""


@dataclass(frozen=True)
class _State:
    """The state of a session after a prompt."""

    interactions: bytes
    """The session's array of all prompts and the mask so far, compressed."""
    intensity: float
    """Intensity with which the last prompt was drawn; later prompts are drawn with a higher one."""
    window: Window
    mask: Bool


class NnInteractive(PromptableModel):
    """nnInteractive with one session per image and one cached state per prompt."""

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="nninteractive",
        title="nnInteractive",
        description="Lesions, organs and anything else that a point, a stroke, a box or a lasso"
        " indicates in a volume. Not for commercial use.",
        version="1",
        labels=(Label("Object", (213, 94, 0)),),
        prompt_dimensions=(3,),
        channels=(1,),
        on_gpu=True,
        prompts=KINDS,
        own_files=tuple(
            OwnFile(f"nninteractive/{name}", _SOURCE, sha256) for name, sha256 in _PINNED
        ),
        packages=("nnInteractive",),
        licence="CC BY-NC-SA 4.0",
        cite="Isensee et al., nnInteractive: Redefining 3D Promptable Segmentation (2025)",
    )

    def __init__(self, weights: Mapping[str, Path], device: str) -> None:
        """Load the network; raise WeightsMissing if a file is not as expected."""
        extras.require(self.spec.packages, NnInteractive.spec.name)
        self._device = device
        with harmless_copy(self.spec.own_files, weights) as folder, _package():
            session = self._session()
            try:
                self._network = session._load_model_artifacts_from_disk(str(folder))
            except (RuntimeError, ValueError, TypeError, KeyError) as error:
                raise Broken(f"the network of {self.spec.name} cannot be built: {error}") from error
            session.initialize_from_loaded_artifacts(self._network)
            session.warmup()

    def answer(self, scene: ImageView, question: Question) -> PromptedObject:
        start, prompts = question.initial, question.prompts
        if start is None and not any(prompt.include for prompt in prompts):
            return _nothing("nothing is included; click on the object itself")
        prepared = scene.keep(("prepared",), partial(self._prepared, scene))
        if prepared is None:
            return _nothing("all voxels of the image have the same value")
        key = hashlib.sha256()
        state: _State | None = None
        if start is not None:
            key.update(repr(start[0]).encode() + np.packbits(start[1]).tobytes())
            state = scene.keep(("begun", key.hexdigest()), partial(_begun, prepared, start))
        for prompt in prompts:
            key.update(repr(prompt).encode())
            make = partial(_after, prepared, state, prompt)
            state = scene.keep(("after", key.hexdigest()), make) or state
        if state is None:
            return _nothing("the prompts lie outside the image")
        mask = _bounded(state, prompts, scene.size(0))
        if not mask.any():
            return _nothing("the network sees no object there; draw a lasso or a scribble")
        return PromptedObject(*voxelise.smallest(state.window, mask))

    def _session(self) -> Any:
        """Return a session of the package on this worker's device."""
        import torch
        from nnInteractive.inference.inference_session import nnInteractiveInferenceSession

        session = nnInteractiveInferenceSession(
            device=torch.device(self._device),
            torch_n_threads=os.cpu_count() or 1,
            interactions_storage="blosc2",  # keeps the state after each prompt small
            enable_undo=False,
        )
        devices.whole_float32(self._device)
        return session

    def _prepared(self, scene: ImageView) -> _Prepared | None:
        """Return the preprocessed image, None if all its voxels have the same value."""
        voxels = scene.read(Window(0, (0, 0, 0), scene.size(0)))
        if voxels.min() == voxels.max():
            return None
        with _package():
            session = self._session()
            session.initialize_from_loaded_artifacts(self._network)
            session.set_image(voxels)
            session.preprocess_future.result()
        return _Prepared(session, session.preprocessed_image.numpy())


def _begun(prepared: _Prepared, start: tuple[Window, NDArray[np.bool_]]) -> _State:
    """Return the state with the initial mask and no prompt."""
    window, mask = start
    whole = np.zeros(prepared.voxels.shape[1:], np.uint8)
    whole[_slices(window)] = mask
    with _package():
        _restore(prepared, None)
        prepared.session.add_initial_seg_interaction(whole)
    return _state(prepared.session, [window])


def _after(prepared: _Prepared, before: _State | None, prompt: Prompt) -> _State | None:
    """Return the state after `prompt`, None if the prompt lies outside the image."""
    session = prepared.session
    interact = _interaction(session, prompt, prepared.voxels.shape[1:])
    if interact is None:
        return None
    with _package():
        _restore(prepared, before)
        changed = interact()
    windows = [] if before is None else [before.window]
    return _state(session, windows if changed is None else [*windows, _window(changed)])


def _interaction(session: Any, prompt: Prompt, size: Index) -> Callable[[], Any] | None:
    """Return a function that adds `prompt` to `session` and returns the bounds of the change."""
    places = np.array(prompt.points)
    if prompt.kind == "point":
        voxel = np.floor(places[0]).astype(int)
        if (voxel < 0).any() or (voxel >= size).any():
            return None
        return partial(session.add_point_interaction, voxel.tolist(), prompt.include)
    if prompt.kind == "box":
        window = voxelise.box(places, size)
        if window is None:
            return None
        if not session.supported_interactions["bbox3d"]:
            window = _middle(window)
        return partial(session.add_bbox_interaction, _bounds(window), prompt.include)
    if prompt.kind == "scribble":
        add = session.add_scribble_interaction
        marks = voxelise.stroke(places, session.preferred_scribble_thickness, size)
    else:
        add, marks = session.add_lasso_interaction, voxelise.outline(places, size)
    if marks is None:
        return None
    window, mask = marks
    return partial(add, mask.view(np.uint8), prompt.include, interaction_bbox=_bounds(window))


def _middle(window: Window) -> Window:
    """Return the middle slice of `window` along its shortest side."""
    across = int(np.argmin(window.shape))
    low, high = list(window.low), list(window.high)
    low[across] = (low[across] + high[across] - 1) // 2
    high[across] = low[across] + 1
    return Window(0, tuple(low), tuple(high))


def _restore(prepared: _Prepared, state: _State | None) -> None:
    """Reset the session to `state`, or to the state before any prompt."""
    import blosc2

    session = prepared.session
    # an earlier request may have been interrupted
    session.new_interaction_centers, session.new_interaction_zoom_out_factors = [], []
    target = np.zeros(prepared.voxels.shape[1:], np.uint8)
    session.set_target_buffer(target)
    if state is None:
        session.reset_interactions()
        return
    target[_slices(state.window)] = state.mask
    session.interactions = blosc2.ndarray_from_cframe(state.interactions, copy=True)
    session.current_interaction_intensity = state.intensity


def _state(session: Any, looked_at: Sequence[Window]) -> _State:
    """Return the state of `session`, whose mask lies within the windows `looked_at`."""
    low = np.min([window.low for window in looked_at], axis=0)
    high = np.max([window.high for window in looked_at], axis=0)
    around = Window(0, tuple(map(int, low)), tuple(map(int, high)))
    window, mask = voxelise.smallest(around, session.target_buffer[_slices(around)] > 0)
    interactions = session.interactions.to_cframe()
    return _State(interactions, session.current_interaction_intensity, window, mask)


def _bounded(state: _State, prompts: Sequence[Prompt], size: Index) -> Bool:
    """Return the mask of `state` cut to the boxes of `prompts` that are deeper than a slice."""
    inside, bounds = np.zeros_like(state.mask), False
    outside = np.zeros_like(state.mask)
    for prompt in prompts:
        box = voxelise.box(np.array(prompt.points), size) if prompt.kind == "box" else None
        if box is not None and min(box.shape) > 1:
            (inside if prompt.include else outside)[overlap(state.window, box)] = True
            bounds |= prompt.include
    left: Bool = state.mask & ~outside
    return left & inside if bounds else left


def _nothing(reason: str) -> PromptedObject:
    return PromptedObject(Window(0, (0, 0, 0), (1, 1, 1)), np.zeros((1, 1, 1), np.bool_), reason)


def _slices(window: Window) -> tuple[slice, ...]:
    return tuple(map(slice, window.low, window.high))


def _bounds(window: Window) -> list[list[int]]:
    """Return `window` in the package's notation."""
    return [list(ends) for ends in zip(window.low, window.high, strict=True)]


def _window(bounds: Sequence[Sequence[int]]) -> Window:
    low, high = zip(*bounds, strict=True)
    return Window(0, low, high)


@contextlib.contextmanager
def _package() -> Iterator[None]:
    """Run code of the package with its output discarded, since it prints the user's prompts.

    The random numbers by which it divides large objects are the same each time.
    """
    before = np.random.get_state()
    np.random.seed(0)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        np.random.set_state(before)
