"""A driver around isoline's own client, as `isoline conformance --reconnecting` runs one."""

import json
import sys
from collections.abc import Callable
from threading import Thread

from isoline_client import Client, ClientError, Json, Policy


def follow(assignment: Json, write: Callable[[Json], object]) -> None:
    """Submit and follow what `assignment` says, and `write` what is taken up."""
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
