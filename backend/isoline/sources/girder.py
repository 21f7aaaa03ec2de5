"""Slides stored in Girder, by item id, read with the requesting user's permissions.

An image is named `girder:SERVER/ITEM`; SERVER is a name from the configuration, never a URL from a
request. The user supplies a Girder token, which is sent to that server only, stays in memory, and
is verified with Girder before cached data is used.

If this machine can see the file, through the configured path mapping, it is read like any other
file. Otherwise its tiles are fetched, losslessly and in parallel.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import orjson
import urllib3
from numpy.typing import NDArray
from PIL import Image

from isoline.errors import IsolineError, NotAllowed, UnknownImage, Unreadable
from isoline.geometry.grid import Box
from isoline.sources.base import ImageInfo, Remote, Source
from isoline.sources.pyramid import TileCache, paste

log = logging.getLogger(__name__)

SCHEME = "girder"
CONNECTIONS = 8
"""Parallel requests to one server, per image and worker."""
TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)
EXACT = "?encoding=PPM&style=" + quote('{"icc": false}')
"""The pixels of the file, without the colour correction that large_image applies for screens.

PPM contains only pixels: encoding a PNG takes Girder longer than the rest of the request, and a
TIFF carries the scanner's colour profile with each tile.
"""
PPM_HEADER_BYTES = 64
MAX_JSON_BYTES = 4 << 20
MAX_TILE_SIDE = 4096


class Connection:
    """Requests to one Girder server with one user's token. Thread-safe.

    Redirects are not followed, so the token never reaches another origin.
    """

    def __init__(self, url: str, token: str) -> None:
        self._prefix = f"{urlsplit(url).path.rstrip('/')}/api/v1/"
        self._host = urlsplit(url).hostname or url
        self._headers = {"Girder-Token": token} if token else {}
        self._pool = urllib3.connection_from_url(
            url, maxsize=CONNECTIONS, block=True, timeout=TIMEOUT
        )

    def get(self, route: str, limit: int, query: str = "", **headers: str) -> bytes:
        """Return the response body of `route`, at most `limit` bytes.

        Raises NotAllowed, UnknownImage or, for any other failure, Unreadable.
        """
        try:
            response = self._pool.request(
                "GET",
                self._prefix + route + query,
                headers={**self._headers, **headers},
                redirect=False,
                retries=urllib3.Retry(2, backoff_factor=0.1, redirect=0, status=0),
                preload_content=False,
            )
            try:
                body: bytes = response.read(limit + 1)
                drained = not response.read(1) if len(body) <= limit else False
            finally:
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            # the error's text may contain the request
            kind = type(error).__name__
            raise Unreadable(
                f"{self._host} does not respond ({kind})", "check that Girder is running"
            ) from None
        if response.status != 200:
            raise self._refusal(response.status, route, body)
        if not drained:
            response.close()
            raise Unreadable(f"{self._host} sent more than {limit} bytes for {route}")
        return body

    def json(self, route: str, **headers: str) -> Any:
        """Return the parsed JSON response of `route`."""
        try:
            return orjson.loads(self.get(route, MAX_JSON_BYTES, **headers))
        except orjson.JSONDecodeError:
            raise Unreadable(
                f"{self._host} did not return JSON for {route}",
                "check the URL of this Girder server",
            ) from None

    def close(self) -> None:
        self._pool.close()

    def _refusal(self, status: int, route: str, body: bytes) -> IsolineError:
        what = f"{self._host} responded with status {status} for {route}"
        if status in (401, 403):
            return NotAllowed(what, "log in to Girder as someone who may read the item")
        if status == 404 or (status == 400 and b"nvalid" in body):  # its response to a wrong id
            return UnknownImage(what, "check the item id, and that the item is a large image")
        if 300 <= status < 400:
            return Unreadable(f"{what}, a redirect", "configure the URL that it redirects to")
        return Unreadable(what, "see Girder's log")


@dataclass(frozen=True)
class GirderImage(Remote):
    """One item, with the credentials to read it."""

    url: str
    item: str
    token: str = field(repr=False)
    tile: tuple[int, int]
    """(width, height) in pixels."""
    zooms: tuple[int, ...]
    """large_image's zoom number for each level of `info`."""
    info: ImageInfo

    @property
    def name(self) -> str:
        return f"item {self.item}"

    def open(self) -> GirderSource:
        return GirderSource(self)


class GirderSource(Source):
    """The tiles of one item, as one user sees them; recently used ones are cached."""

    name = SCHEME

    def __init__(self, image: GirderImage) -> None:
        self.info = image.info
        self._image = image
        self._connection = Connection(image.url, image.token)
        self._cache = TileCache()
        self._fetchers = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="girder")

    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        tiles = self._tiles(self._image.zooms[level], box)
        out = np.empty((box.height, box.width, 3), np.uint8)
        paste(out, box, self._image.tile, lambda column, row: tiles[column, row])
        return np.moveaxis(out, 2, 0)

    def close(self) -> None:
        self._fetchers.shutdown(wait=True, cancel_futures=True)
        self._connection.close()
        self._cache.clear()

    def _tiles(self, zoom: int, box: Box) -> Mapping[tuple[int, int], NDArray[np.generic]]:
        """Return every tile that overlaps `box`, by column and row."""
        wide, tall = self._image.tile
        columns = range(box.x0 // wide, -(-box.x1 // wide))
        rows = range(box.y0 // tall, -(-box.y1 // tall))
        places = list(product(columns, rows))

        def tile(place: tuple[int, int]) -> NDArray[np.generic]:
            return self._cache.get((zoom, *place), lambda: self._fetch(zoom, *place))

        return dict(zip(places, self._fetchers.map(tile, places), strict=True))

    def _fetch(self, zoom: int, column: int, row: int) -> NDArray[np.generic]:
        """Return the pixels (y, x, 3) of one tile."""
        wide, tall = self._image.tile
        route = f"item/{self._image.item}/tiles/zxy/{zoom}/{column}/{row}"
        body = self._connection.get(route, wide * tall * 3 + PPM_HEADER_BYTES, EXACT)
        try:
            with Image.open(io.BytesIO(body), formats=("PPM",)) as picture:
                if picture.width > wide or picture.height > tall:
                    raise Unreadable(f"{route}: a tile of {picture.size} instead of {wide, tall}")
                rgb = np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise Unreadable(f"{route}: {error}") from error
        tile = np.full((tall, wide, 3), 255, np.uint8)  # a tile at the far side may be cut off
        tile[: rgb.shape[0], : rgb.shape[1]] = rgb
        return tile
