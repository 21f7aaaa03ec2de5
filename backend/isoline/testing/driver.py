"""A driver for isoline's own client, to be run by `isoline conformance --reconnecting`."""

import json
import sys
from collections.abc import Iterator
from threading import Thread
from typing import BinaryIO

from isoline_client import Client, ClientError, Json, Policy


def answer(mode: str, stream: BinaryIO) -> object:
    """Return the output for the input `stream` in `mode`."""
    return follow(json.load(stream)) if mode == "follow" else ["follow"]


def follow(assignment: Json) -> Iterator[Json]:
    """Submit and follow the request in `assignment`, and yield each event that is received."""
    policy = Policy(**assignment.get("limits", {}))
    client = Client(assignment["url"], assignment.get("token"), policy=policy)
    looks = {look["after"]: look["focus"] for look in assignment.get("looks", ())}
    try:
        job = client.submit_request(assignment["request"])
        for event in job.events():
            yield {"event": type(event).__name__.lower(), "seq": event.seq}
            if event.seq in looks:
                Thread(target=job.focus, args=looks[event.seq], daemon=True).start()
    except ClientError as error:
        yield {"error": str(error)}


if __name__ == "__main__":
    said = answer(sys.argv[1], sys.stdin.buffer)
    for line in said if isinstance(said, Iterator) else [said]:
        print(json.dumps(line), flush=True)  # noqa: T201
