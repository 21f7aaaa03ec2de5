"""Segment a slide through the plugin's routes: the annotation grows while the task runs.

The isoline server reads the pixels with the permissions of the task's token; nothing is copied into
the container. If the task is cancelled, the run is stopped, and its results can be accepted or
discarded in the panel.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
import urllib.error
import urllib.request
from typing import Any

POLL_SECONDS = 1.0


class Girder:
    """A client of Girder's API with the task's token."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._token = token

    def call(self, method: str, route: str, body: object = None) -> Any:
        """Return the JSON response of `route`; exit with Girder's message if it is an error."""
        request = urllib.request.Request(
            f"{self._url}/{route}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Girder-Token": self._token, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError):
                text = json.loads(text)["message"]
            sys.exit(f"Girder responded with {error.code}: {text}")


def main() -> None:
    """Run, report progress as slicer_cli_web expects it, and accept the results."""
    asked = _arguments()
    girder = Girder(asked.girderApiUrl, asked.girderToken)
    item = girder.call("GET", f"file/{asked.inputImageFile}")["itemId"]
    body = {
        "model": asked.model,
        "region": _region(asked.region),
        "parameters": json.loads(asked.parameters),
    }
    run = girder.call("POST", f"isoline/item/{item}/run", body)
    route = f"isoline/run/{run['_id']}"

    def stop(*_: object) -> None:
        girder.call("POST", f"{route}/cancel")

    signal.signal(signal.SIGTERM, stop)
    _say("filter-start", f"<filter-name>{run['title']}</filter-name>")
    while run["state"] == "running":
        time.sleep(POLL_SECONDS)
        run = girder.call("GET", route)
        _say("filter-progress", str(run["tilesDone"] / max(1, run["tiles"])))
    if run["state"] != "done":
        sys.exit(f"{run['state']}: {run['message'] or 'accept or discard it in the panel'}")
    girder.call("POST", f"{route}/accept")
    _say("filter-end", f"<filter-name>{run['title']}</filter-name>")
    print(f"{run['elements']} contours in {len(run['annotations'])} annotations")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputImageFile", help="the id of the slide's file")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument(
        "--region", default="-1,-1,-1,-1", help="left, top, width, height in pixels of the slide"
    )
    parser.add_argument("--parameters", default="{}", help="parameters of the model, as JSON")
    parser.add_argument("--girderApiUrl", required=True)
    parser.add_argument("--girderToken", required=True)
    return parser.parse_args()


def _region(text: str) -> list[float] | None:
    left, top, width, height = map(float, text.split(","))
    return None if width <= 0 or height <= 0 else [left, top, left + width, top + height]


def _say(tag: str, text: str) -> None:
    print(f"<{tag}>{text}</{tag}>", flush=True)


if __name__ == "__main__":
    main()
