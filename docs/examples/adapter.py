"""A viewer's client without a viewer and without a network: gestures to requests, events to what
is shown."""

import json
import sys
from base64 import b64decode
from itertools import pairwise

CAPABILITIES = ["regions", "spacing", "contours", "prompts"]
CAPABILITIES += ["volumes", "volume_prompts", "nifti", "rerun", "replaces"]


def answer(mode, stream):
    """Return what to print for what `isoline conformance` sends."""
    match mode:
        case "capabilities":
            return CAPABILITIES
        case "request":
            return request_for(json.load(stream))
        case "events":
            return shown([events_in(stream)])
        case "rerun":
            told = json.load(stream)
            return shown(told["runs"], told["touched"])


def events_in(stream):
    """Yield the events of a stream: an empty line is a heartbeat, one without an end is cut off."""
    for line in stream:
        if line.strip() and line.endswith(b"\n"):
            yield json.loads(line)


# --- Gestures to requests ---------------------------------------------------------------------


def request_for(gesture):
    """Return the body to POST to /v1/jobs for what the user did."""
    body = {
        key: gesture[key]
        for key in ("image", "model", "parameters", "spacing_um")
        if key in gesture
    }
    match gesture["gesture"]:
        case "rectangle":
            xs, ys = zip(gesture["from"], gesture["to"], strict=True)
            body["region"] = [min(xs), min(ys), max(xs), max(ys)]
        case "pixels":  # the last pixel n ends at n + 1
            (x0, y0), (x1, y1) = gesture["first"], gesture["last"]
            body["region"] = [x0, y0, x1 + 1, y1 + 1]
        case "polygon":
            rings = [gesture["points"], *gesture.get("holes", [])]
            closed = [[*ring, ring[0]] for ring in rings]
            body["region"] = {"type": "Polygon", "coordinates": closed}
        case "prompts":
            body["prompts"] = [prompt_for(mark) for mark in gesture["drawn"]]
        case "clicks":
            body["prompts"] = [prompt_for(mark) for mark in remaining(gesture["steps"])]
        case "whole":
            pass
    if "looking_at" in gesture:
        body["focus"] = gesture["looking_at"]
    if "looking_at_pixel" in gesture:
        body["focus"] = middle(gesture["looking_at_pixel"])
    if "looking_at_slice" in gesture:
        k, names = gesture["looking_at_slice"], gesture["volume"]["slices"]
        body["slice"] = names[k] if names else k
    if "prompts" in body and gesture.get("volume", {}).get("frame_of_reference"):
        body["frame_of_reference"] = gesture["volume"]["frame_of_reference"]
    if "again" in gesture:
        body["replaces"] = gesture["again"]["job"]
    return body


def remaining(steps):
    """Return the marks of the object that the user points at, after some undoing."""
    marks = []
    for step in steps:
        if "draw" in step:
            marks.append(step["draw"])
        elif "undo" in step:
            marks.pop()
        else:  # the object is accepted
            marks.clear()
    return marks


def prompt_for(mark):
    """Return the prompt for one point, box, scribble or polygon that the user drew."""
    if "pixel" in mark:
        points = [middle(mark["pixel"])]
    elif "voxel" in mark:  # the middle of voxel n is n
        points = [mark["voxel"]]
    elif mark["kind"] == "box":
        points = [mark[key] for key in ("from", "to", "from_voxel", "to_voxel") if key in mark]
    else:
        points = mark["points"]
    if mark["kind"] == "polygon" and points[0] == points[-1]:
        points = points[:-1]
    return {"kind": mark["kind"], "points": points, "include": mark.get("include", True)}


def middle(pixel):
    """Pixel n spans [n, n + 1)."""
    return [n + 0.5 for n in pixel]


# --- Events to what is shown ------------------------------------------------------------------


def shown(runs, touched=()):
    """Return what the viewer shows after `runs`; the user has changed what is `touched`."""
    layer = Layer(set(touched))
    for events in runs:
        layer.seen = -1  # each run counts its events from 0
        for event in events:
            layer.apply(event)
    if layer.labels is not None:
        return layer.labels
    return [measured(feature) for feature in layer.features.values()]


class Layer:
    """What the viewer shows of one run and of those that it replaces."""

    def __init__(self, touched):
        self.touched = touched
        self.seen = -1
        self.features = {}
        self.provisional = set()
        self.labels = None
        """Of a volume: slices of rows of numbers, 0 for nothing."""

    def apply(self, event):
        """Take in one event of the stream."""
        if event["seq"] <= self.seen:  # repeated after reconnecting
            return
        self.seen = event["seq"]
        match event["event"]:
            case "started" if "volume" in event and self.labels is None:
                self.columns, self.rows, slices = event["volume"]["size"]
                self.labels = [self.empty() for _ in range(slices)]
                names = event["volume"]["slices"]
                self.numbers = {
                    (each["instance"], each["frame"]): k for k, each in enumerate(names)
                }
            case "contours":
                self.remove(event["replaces"])  # first: a feature may replace itself
                for feature in event["features"]:
                    self.features[feature["id"]] = feature
                    if event["provisional"]:
                        self.provisional.add(feature["id"])
            case "mask":
                self.paint(event["slices"], event["whole"])
            case "done" | "failed" | "cancelled":
                self.remove(self.provisional)

    def remove(self, ids):
        for name in set(ids) - self.touched:
            self.features.pop(name, None)
            self.provisional.discard(name)

    def paint(self, slices, whole):
        if whole:
            self.labels = [self.empty() for _ in self.labels]
        for each in slices:
            k = self.numbers[each["instance"], each["frame"]] if self.numbers else each["k"]
            self.labels[k] = self.empty()
            for layer in each["layers"]:
                i0, j0, i1, _ = layer["box"]
                for at, inside in enumerate(pixels(b64decode(layer["runs"]))):
                    if inside:
                        row, column = divmod(at, i1 - i0)
                        self.labels[k][j0 + row][i0 + column] = layer["label"]

    def empty(self):
        return [[0] * self.columns for _ in range(self.rows)]


def pixels(runs):
    """Yield for each pixel of a box, row by row, whether it has the label."""
    length = shift = 0
    inside = False
    for byte in runs:  # unsigned LEB128
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield from [inside] * length
            length = shift = 0
            inside = not inside


def measured(feature):
    """Return what the viewer draws for one GeoJSON feature."""
    geometry = feature["geometry"]
    several = geometry["type"] == "MultiPolygon"
    polygons = geometry["coordinates"] if several else [geometry["coordinates"]]
    xs, ys = zip(*(point for rings in polygons for ring in rings for point in ring), strict=True)
    return {
        "id": feature["id"],
        "label": feature["properties"]["label"],
        "area": sum(area(shell) - sum(map(area, holes)) for shell, *holes in polygons),
        "bounds": [min(xs), min(ys), max(xs), max(ys)],
    }


def area(ring):
    """The shoelace formula; a ring ends where it begins."""
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))) / 2


if __name__ == "__main__":
    print(json.dumps(answer(sys.argv[1], sys.stdin.buffer)))
