"""isoline in napari: a slide or a volume, what the user draws on it, and what isoline finds.

    python napari_isoline.py http://127.0.0.1:8765 slides/CMU-1.svs

`Adapter` needs a viewer model and no window; `panel` is the dock widget around it.
"""

import os
import sys
from math import ceil, log2

import napari
import numpy as np
from napari.utils.colormaps import CyclicLabelColormap

from isoline_client import Change, ClickSession, Client, Run, paint, point, polygon
from isoline_client.outlines import Outlines, rings

OVERVIEW_PX = 512
FAINT = 0.4


class Adapter:
    """One image of an isoline server in a napari viewer; call `update` from a timer."""

    def __init__(self, viewer, client, name):
        self.viewer, self.client, self.image = viewer, client, client.image(name)
        self.models = {each["name"]: each for each in client.models() if not each["problem"]}
        self.results, self._clicked = {}, None
        if self.image.volume:
            place = {"ndim": 3, "scale": self.image.volume.spacing_mm[::-1]}
            viewer.add_image(client.read_volume(name), name=name, scale=place["scale"])
        else:  # napari counts from the centre of the first pixel, isoline from its corner
            place = {"ndim": 2, "translate": (-0.5, -0.5)}
            for channel in [None] if self.image.is_rgb else self.image.channels:
                levels = client.slide_levels(name, channel)
                viewer.add_image(levels, multiscale=True, name=channel or name, blending="additive")
        style = {"face_color": "transparent", "edge_color": "yellow", **place}
        self.edited = viewer.add_shapes(name="edited", **style)
        self.regions = viewer.add_shapes(name="regions", **style)
        colors = {"face_color": "include", "face_color_cycle": ["green", "red"]}
        marks = {"features": {"include": np.empty(0, bool)}, "feature_defaults": {"include": True}}
        self.points = viewer.add_points(name="points", **marks, **colors, **place)
        for layer in (self.regions, self.points):
            layer.events.data.connect(self._ask)

    def segment(self, model, **parameters):
        """Run `model` in what is drawn in `regions`, or everywhere, in place of its last run."""
        options = {"parameters": parameters}
        if self.image.volume:
            options["slice"] = int(self.viewer.dims.current_step[0])
        else:
            options["focus"] = [n + 0.5 for n in reversed(self.viewer.scene.camera.center[-2:])]
            outlines = [[*ring, ring[0]] for ring in self._drawn()]
            region = {"type": "MultiPolygon", "coordinates": [[ring] for ring in outlines]}
            options["region"] = region if outlines else None
        result = self._result(model)
        if result.run:
            result.run.again(**options)
        else:
            result.run = Run(self.client, self.image.name, model, **options).start()

    def cancel(self):
        """Stop what is running; what it has found stays."""
        for result in self.results.values():
            if result.run and not result.run.is_over:
                result.run.cancel()

    def resume(self, model, bookmark=None):
        """Go on with a run that was given up, or with that of a bookmark of an earlier session."""
        if bookmark:
            self._result(model).run = Run.resume(self.client, bookmark)
        else:
            self.results[model].run.follow()

    def click(self, model):
        """Let `model` find what `points` and `regions` mark, from now on."""
        self._clicked = self._result(model)
        if not self._clicked.clicks:
            self._clicked.clicks = ClickSession(self.client, self.image.name, model)
        self._ask()

    def undo(self):
        """Take the last mark back."""
        layer = self.points if len(self.points.data) else self.regions
        layer.data = layer.data[:-1]

    def accept(self):
        """Keep the object that is marked; the next mark begins another one."""
        result, self._clicked = self._clicked, None
        found = result.clicks.accept()
        if found:
            result.show(Change(added=found.features))
            self.points.data, self.regions.data = self.points.data[:0], []
        self._clicked = result

    def edit(self, position):
        """Move the object at `position` (y, x) to `edited`, where no later run replaces it."""
        for result in self.results.values():
            if feature := result.feature_at(position):
                if result.run:
                    result.run.store.keep(feature["id"])
                result.show(Change(removed=[feature["id"]]))
                first, *more = rings(feature["geometry"])
                # to napari, holes and further parts are detours from the first corner
                corners = np.vstack([first, *(np.vstack([ring, first[:1]]) for ring in more)])
                self.edited.add(corners[:, ::-1], shape_type="polygon")

    def update(self):
        """Show what has come since the last call, and return how far everything is."""
        for result in self.results.values():
            answer = result.clicks and result.clicks.poll()
            if answer:
                result.show(answer.change, {each["id"] for each in answer.object.features})
                result.told = answer.error or answer.object.message or "ready"
            if result.run:
                result.show(result.run.update(), result.run.store.provisional)
                end, at = result.run.store.end, result.run.store.progress
                tiles = f"{at.tiles_done} of {at.tiles} tiles" if at else "waiting"
                result.told = result.run.error or getattr(end, "message", tiles)
        return ", ".join(f"{model}: {each.told}" for model, each in self.results.items())

    def _ask(self, event=None):
        """Ask what the marks mean, unless they are only about to change."""
        if self._clicked and (event is None or event.action in ("added", "removed", "changed")):
            marks = zip(self.points.data, self.points.features["include"], strict=True)
            points = [point(*at[::-1], include=bool(include)) for at, include in marks]
            self._clicked.clicks.ask([*map(polygon, self._drawn()), *points])

    def _drawn(self):
        return [corners[:, ::-1].tolist() for corners in self.regions.data]

    def _result(self, model):
        if model not in self.results:
            kind = VolumeResult if self.image.volume else SlideResult
            self.results[model] = kind(self.viewer, self.image, model, self.models[model]["labels"])
        return self.results[model]


class SlideResult:
    """What one model has found on a slide: label images, painted where napari looks at them."""

    run, clicks, told = None, None, "ready"

    def __init__(self, viewer, image, model, labels):
        self._features, self._outlines, self._count = {}, Outlines(), 0
        self._size, self._names = image.size, [each["name"] for each in labels]
        halvings = max(1, ceil(log2(max(image.size) / OVERVIEW_PX)))
        shapes = [tuple(ceil(n / 2**k) for n in image.size[::-1]) for k in range(halvings + 1)]
        levels = [self._outlines.level(each, image.size) for each in shapes]
        # napari keeps the coarsest level: that one is an array, painted at every change
        levels[-1] = self._overview = np.zeros(shapes[-1], np.int32)
        colors = [(*rgb, opacity) for opacity in (1, FAINT) for rgb in _rgb(labels)]
        colormap = CyclicLabelColormap([(0, 0, 0, 0), *colors])
        self.layer = viewer.add_labels(levels, multiscale=True, name=model, colormap=colormap)
        self.layer.contour = 1

    def show(self, change, provisional=()):
        """Draw a change; features whose id is in `provisional` are faint."""
        if not change:
            return
        for key in change.removed:
            self._features.pop(key, None)
            self._outlines.remove(key)
        new = Outlines()
        for feature in change.added:
            color = self._names.index(feature["properties"]["label"])
            color += len(self._names) * (feature["id"] in provisional)
            number = 1 + color + 2 * len(self._names) * self._count  # the colours recur
            self._features[feature["id"]] = feature
            new.add(feature["id"], feature["geometry"], number)
            self._count += 1
        self._outlines.update(new)
        if change.removed:
            self._overview[...], new = 0, self._outlines
        seen = np.asarray(new.level(self._overview.shape, self._size))
        np.maximum(self._overview, seen, out=self._overview)
        ids, numbers = [*self._outlines.numbers], [*self._outlines.numbers.values()]
        names = [self._names[(number - 1) % len(self._names)] for number in numbers]
        self.layer.features = {"index": numbers, "label": names, "id": ids}
        self.layer.refresh()

    def feature_at(self, position):
        """Return the feature at a position (y, x) in the viewer, None beside all."""
        _, number = self.layer.get_value(position, world=True)
        found = [key for key, n in self._outlines.numbers.items() if n == number]
        return self._features[found[0]] if found else None


class VolumeResult:
    """What one model has found in a volume; slices in which the user has painted stay."""

    run, clicks, told = None, None, "ready"

    def __init__(self, viewer, image, model, labels):
        self._pixels = np.zeros(image.volume.shape, np.uint8)
        self._told = self._pixels.copy()
        colormap = CyclicLabelColormap([(0, 0, 0, 0), *((*rgb, 1) for rgb in _rgb(labels))])
        scale = image.volume.spacing_mm[::-1]
        self.layer = viewer.add_labels(self._pixels, name=model, colormap=colormap, scale=scale)

    def show(self, change, provisional=()):
        for k, layers in change.slices.items():
            if np.array_equal(self._pixels[k], self._told[k]):
                paint(self._pixels, k, layers)
                self._told[k] = self._pixels[k]
        if change.slices:
            self.layer.refresh()

    def feature_at(self, position):
        return None


def _rgb(labels):
    return [[n / 255 for n in each["color"]] for each in labels]


def panel(adapter):
    """Return the dock widget: what can be done with a model, and how far it is."""
    from magicgui.widgets import CheckBox, ComboBox, Container, Label, PushButton
    from qtpy.QtCore import QTimer

    def button(text, act):
        made = PushButton(text=text)
        made.native.clicked.connect(lambda: act())  # napari shows what it raises
        return made

    model, told = ComboBox(choices=[*adapter.models]), Label()
    include = CheckBox(text="include", value=True)
    include.changed.connect(lambda on: setattr(adapter.points, "feature_defaults", {"include": on}))
    buttons = [
        button("Segment", lambda: adapter.segment(model.value)),
        button("Stop", adapter.cancel),
        button("Click", lambda: adapter.click(model.value)),
        button("Undo", adapter.undo),
        button("Accept", adapter.accept),
    ]
    adapter.viewer.bind_key("e", lambda viewer: adapter.edit(viewer.cursor.position))
    widget = Container(widgets=[model, *buttons, include, told])
    timer = QTimer(widget.native)
    timer.timeout.connect(lambda: setattr(told, "value", adapter.update()))
    timer.start(50)
    return widget


if __name__ == "__main__":
    viewer, (url, image) = napari.Viewer(), sys.argv[1:]
    adapter = Adapter(viewer, Client(url, os.environ.get("ISOLINE_TOKEN")), image)
    viewer.window.add_dock_widget(panel(adapter), name="isoline")
    napari.run()
