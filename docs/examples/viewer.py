"""A viewer in fifty lines: it prints what lies in a region, or at a point, as it is found.

    python viewer.py http://127.0.0.1:8765 slides/CMU-1.svs nuclei 2600 3900 6696 7996
    python viewer.py http://127.0.0.1:8765 slides/CMU-1.svs click 4512.5 5210
It needs `isoline_client` and nothing else.
"""

import sys
import time

from isoline_client import ClickSession, Client, ClientError, Run, point


def region(client, image, model, box):
    """Segment a region and show it while it is computed; Ctrl-C stops it."""
    run = Run(client, image, model, region=box).start()
    while not run.is_over:
        try:
            show(run.update(seconds=0.1), run.store.provisional)
        except KeyboardInterrupt:
            run.cancel()  # what was found stays, and the last events still come
    print(run.error or run.store.end)


def click(client, image, model, at):
    """Show the object at a point."""
    session = ClickSession(client, image, model)
    session.add(point(*at))
    while (answer := session.poll()) is None:
        time.sleep(0.02)
    show(answer.change)
    print(answer.error or answer.object.message or "found")


def show(change, provisional=()):
    """Apply a change in one step: first what goes, then what comes."""
    for key in change.removed:
        print("-", key)
    for feature in change.added:
        mark = "~" if feature["id"] in provisional else "+"  # ~ will be replaced: never save it
        print(mark, feature["id"], feature["geometry"]["coordinates"])


if __name__ == "__main__":
    url, image, model, *numbers = sys.argv[1:]
    draw = region if len(numbers) == 4 else click
    try:
        draw(Client(url), image, model, [float(number) for number in numbers])
    except ClientError as error:
        sys.exit(str(error))
