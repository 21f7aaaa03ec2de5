"""A client of isoline servers that yields results as typed events while they are computed.

    client = Client("http://127.0.0.1:8765")
    for event in client.segment("slide.svs", "nuclei", region=[2600, 3900, 6696, 7996]):
        if isinstance(event, Contours):
            print(len(event.features), "contours")

Requires only `requests`. All coordinates are image coordinates: level-0 pixels, x to the right,
y down, with the origin at the corner of the first pixel.
"""

from isoline_client.clicks import Answer, ClickedObject, ClickSession
from isoline_client.client import Client
from isoline_client.errors import ClientError
from isoline_client.events import (
    Cancelled,
    Contours,
    Done,
    End,
    Event,
    Failed,
    Mask,
    Progress,
    Started,
    Warned,
    decode_event,
)
from isoline_client.follower import Follower
from isoline_client.images import ImageInfo, Level, Region, Volume
from isoline_client.job import Job
from isoline_client.masks import decode_layer, encode_layer, paint, slices_of
from isoline_client.options import Json, Options, box, point, polygon, scribble
from isoline_client.outlines import Outlines, rings
from isoline_client.pyramid import SlideLevel
from isoline_client.retry import ONCE, PROTOCOL, Listener, Policy
from isoline_client.runs import Run
from isoline_client.store import Change, Slices, Store

__version__ = "0.1.0"

__all__ = [
    "ONCE",
    "PROTOCOL",
    "Answer",
    "Cancelled",
    "Change",
    "ClickSession",
    "ClickedObject",
    "Client",
    "ClientError",
    "Contours",
    "Done",
    "End",
    "Event",
    "Failed",
    "Follower",
    "ImageInfo",
    "Job",
    "Json",
    "Level",
    "Listener",
    "Mask",
    "Options",
    "Outlines",
    "Policy",
    "Progress",
    "Region",
    "Run",
    "Slices",
    "SlideLevel",
    "Started",
    "Store",
    "Volume",
    "Warned",
    "box",
    "decode_event",
    "decode_layer",
    "encode_layer",
    "paint",
    "point",
    "polygon",
    "rings",
    "scribble",
    "slices_of",
]
