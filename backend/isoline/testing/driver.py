"""A driver for isoline's own client, to be run by `isoline conformance --reconnecting`."""

import json
import sys
from collections.abc import Callable
from threading import Thread

from isoline_client import Client, ClientError, Json, Policy


def follow(assignment: Json, write: Callable[[Json], object]) -> None:
    """Submit and follow the request in `assignment`, and `write` each event that is received."""
    client = Client(assignment["url"], policy=Policy(**assignment.get("limits", {})))
    looks = {look["after"]: look["focus"] for look in assignment.get("looks", ())}
    try:
        job = client.submit_request(assignment["request"])
        for event in job.events():
            write({"event": type(event).__name__.lower(), "seq": event.seq})
            if event.seq in looks:
                Thread(target=job.focus, args=looks[event.seq], daemon=True).start()
    except ClientError as error:
        write({"error": str(error)})


if __name__ == "__main__":
    follow(json.load(sys.stdin), lambda line: print(json.dumps(line), flush=True))  # noqa: T201
