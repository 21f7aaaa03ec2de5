"""An encoder in thirty lines: the least that a viewer needs to draw an object."""

from isoline.domain.events import End, Objects, Started
from isoline.exports.encoder import Encoder, RingStyle, items, join


class Parts(Encoder):
    """Each object is its parts, and each part a list of closed rings: the shell, then holes."""

    name = "parts"
    suffix = ".json"
    media_type = "application/json"

    def features(self, objects: Objects, started: Started, provisional: bool) -> bytes:
        return join(
            [
                {
                    "id": self.id_text(item.id),
                    "label": started.labels[item.label].name,
                    "parts": item.parts,
                    "incomplete": item.incomplete,
                    "measurements": item.measurements,
                }
                for item in items(objects, started, RingStyle.CLOSED)
            ]
        )

    def header(self, started: Started) -> bytes:
        return b"[\n"

    def footer(self, started: Started, end: End | None) -> bytes:
        return b"\n]\n"
