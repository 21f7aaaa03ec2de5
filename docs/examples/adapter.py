"""A viewer's adapter without a viewer: gestures to requests, events to what is shown."""

import json
import sys
from itertools import pairwise


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
        case "whole":
            pass
    if "looking_at" in gesture:
        body["focus"] = gesture["looking_at"]
    if "looking_at_pixel" in gesture:
        body["focus"] = middle(gesture["looking_at_pixel"])
    return body


def prompt_for(mark):
    """Return the prompt for one point, box, scribble or polygon that the user drew."""
    if "pixel" in mark:
        points = [middle(mark["pixel"])]
    elif mark["kind"] == "box":
        points = [mark["from"], mark["to"]]
    else:
        points = mark["points"]
    if mark["kind"] == "polygon" and points[0] == points[-1]:
        points = points[:-1]
    return {"kind": mark["kind"], "points": points, "include": mark.get("include", True)}


def middle(pixel):
    """Pixel n spans [n, n + 1)."""
    return [n + 0.5 for n in pixel]


class Layer:
    """What the viewer shows for one job."""

    def __init__(self):
        self.seen = -1
        self.features = {}
        self.provisional = set()

    def apply(self, line):
        """Take in one line of the stream."""
        if not line.strip():  # a heartbeat
            return
        event = json.loads(line)
        if event["seq"] <= self.seen:  # repeated after reconnecting
            return
        self.seen = event["seq"]
        match event["event"]:
            case "contours":
                self.remove(event["replaces"])  # first: a feature may replace itself
                for feature in event["features"]:
                    self.features[feature["id"]] = feature
                    if event["provisional"]:
                        self.provisional.add(feature["id"])
            case "done" | "failed" | "cancelled":
                self.remove(self.provisional)

    def remove(self, ids):
        for name in list(ids):
            self.features.pop(name, None)
            self.provisional.discard(name)


def shown(feature):
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


def answer(mode, stream):
    """Return what to print for what `isoline conformance` sends."""
    if mode == "request":
        return request_for(json.load(stream))
    layer = Layer()
    for line in stream:
        layer.apply(line)
    return [shown(feature) for feature in layer.features.values()]


if __name__ == "__main__":
    print(json.dumps(answer(sys.argv[1], sys.stdin.buffer)))
