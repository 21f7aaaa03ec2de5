"""Slides that Girder keeps, by item id, with the rights of whoever asks.

An image is called `girder:SERVER/ITEM`; SERVER is a name from the configuration, never a URL from
a request. Whoever asks presents a Girder token, which goes to that server and nowhere else, stays
in memory, and is shown to Girder before anything that is remembered.

Where this machine sees the file, through the path mapping of the configuration, it is read like
any other file. Else its tiles are fetched, losslessly and in parallel.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import orjson
import urllib3
from numpy.typing import NDArray
from PIL import Image

from isoline.config.settings import Girder
from isoline.errors import IsolineError, NotAllowed, UnknownImage, Unreadable
from isoline.geometry.grid import Box
from isoline.images.catalog import Caller, Found
from isoline.sources.base import ImageInfo, Remote, Source
from isoline.sources.pixel_size import NO_SPACING, believable
from isoline.sources.pyramid import RGB, TileCache, level, paste, scale_problems, white

log = logging.getLogger(__name__)

SCHEME = "girder"
CONNECTIONS = 8
"""Requests at once to one server for one image and worker."""
TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)
EXACT = "?encoding=PPM&style=" + quote('{"icc": false}')
"""The pixels of the file: without the colour correction that large_image makes for screens.

PPM is pixels and nothing else: making a PNG takes Girder longer than the rest of the request, and
a TIFF carries the scanner's colour profile with each tile.
"""
PPM_HEADER_BYTES = 64
MAX_JSON_BYTES = 4 << 20
MAX_TILE_SIDE = 4096


class Connection:
    """Requests to one Girder with one user's token. Safe to use from several threads.

    Redirects are refused, so that the token never reaches another origin.
    """

    def __init__(self, url: str, token: str) -> None:
        self._prefix = f"{urlsplit(url).path.rstrip('/')}/api/v1/"
        self._host = urlsplit(url).hostname or url
        self._headers = {"Girder-Token": token} if token else {}
        self._pool = urllib3.connection_from_url(
            url, maxsize=CONNECTIONS, block=True, timeout=TIMEOUT
        )

    def get(self, route: str, limit: int, query: str = "", **headers: str) -> bytes:
        """Return the body of `route`, of at most `limit` bytes.

        Raises NotAllowed, UnknownImage, or Unreadable when Girder answers anything else.
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
            # the error's text may repeat the request
            kind = type(error).__name__
            raise Unreadable(f"{self._host} does not answer ({kind})", "is Girder up?") from None
        if response.status != 200:
            raise self._refusal(response.status, route, body)
        if not drained:
            response.close()
            raise Unreadable(f"{self._host} sent more than {limit} bytes for {route}")
        return body

    def json(self, route: str, **headers: str) -> Any:
        """Return what `route` says."""
        try:
            return orjson.loads(self.get(route, MAX_JSON_BYTES, **headers))
        except orjson.JSONDecodeError:
            raise Unreadable(
                f"{self._host} sent no JSON for {route}", "check the url of this Girder"
            ) from None

    def close(self) -> None:
        self._pool.close()

    def _refusal(self, status: int, route: str, body: bytes) -> IsolineError:
        what = f"{self._host} answered {status} for {route}"
        if status in (401, 403):
            return NotAllowed(what, "log in to Girder as someone who may read the item")
        if status == 404 or (status == 400 and b"nvalid" in body):  # what it says of a wrong id
            return UnknownImage(what, "check the item id, and that it is a large image")
        if 300 <= status < 400:
            return Unreadable(f"{what}, a redirect", "set the url that it redirects to")
        return Unreadable(what, "see Girder's log")


@dataclass(frozen=True)
class GirderImage(Remote):
    """One item and who reads it."""

    url: str
    item: str
    token: str = field(repr=False)
    tile: tuple[int, int]
    """(width, height) in pixels."""
    zooms: tuple[int, ...]
    """large_image's number of each level of `info`."""
    info: ImageInfo

    @property
    def name(self) -> str:
        return f"item {self.item}"

    def open(self) -> GirderSource:
        return GirderSource(self)


class GirderSource(Source):
    """The tiles of one item, as one user sees them; those seen lately are kept."""

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
        """Return every tile that meets `box`, by column and row."""
        wide, tall = self._image.tile
        columns = range(box.x0 // wide, -(-box.x1 // wide))
        rows = range(box.y0 // tall, -(-box.y1 // tall))
        places = list(product(columns, rows))

        def tile(place: tuple[int, int]) -> NDArray[np.generic]:
            return self._cache.get((zoom, *place), lambda: self._fetch(zoom, *place))

        return dict(zip(places, self._fetchers.map(tile, places), strict=True))

    def _fetch(self, zoom: int, column: int, row: int) -> NDArray[np.generic]:
        """Return (y, x, 3) of one tile."""
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
        tile = np.full((tall, wide, 3), 255, np.uint8)  # a tile at the far side may be cut
        tile[: rgb.shape[0], : rgb.shape[1]] = rgb
        return tile


class GirderImages:
    """Finds `girder:SERVER/ITEM`: a file that this machine sees, or an image of tiles."""

    def __init__(
        self, servers: Mapping[str, Girder], describe: Callable[[Path], ImageInfo]
    ) -> None:
        """Serve the items of `servers`.

        `describe` opens a file just far enough to know what is in it.
        """
        self._servers = dict(servers)
        self._describe = describe

    def find(self, name: str, caller: Caller) -> Found:
        """Return the image called `name` after Girder has said that `caller` may read it."""
        server, item = self._item(name)
        connection = Connection(server.url, caller.tokens.get(SCHEME, ""))
        try:
            with ThreadPoolExecutor(4) as pool:  # one round trip instead of four
                about = pool.submit(connection.json, f"item/{item}")
                tiles = pool.submit(connection.json, f"item/{item}/tiles")
                files = pool.submit(connection.json, f"item/{item}/files")
                place = pool.submit(self._place, server, connection, item, about)
                about.result()  # Girder's word on the caller's rights comes before all else
                path = place.result()
                if path is not None:
                    return Found(name, path, self._describe(path))
                remote = _remote(server.url, item, caller, tiles.result(), files.result())
        finally:
            connection.close()
        return Found(name, remote, remote.info)

    def check(self, name: str, caller: Caller) -> None:
        """Ask Girder whether `caller` may read the item."""
        server, item = self._item(name)
        connection = Connection(server.url, caller.tokens.get(SCHEME, ""))
        try:
            connection.json(f"item/{item}")
        finally:
            connection.close()

    def _item(self, name: str) -> tuple[Girder, str]:
        """Return the server and the id of the item in `name`. Raises UnknownImage."""
        server_name, slash, item = name.removeprefix(f"{SCHEME}:").partition("/")
        server = self._servers.get(server_name)
        if server is None or not slash:
            known = ", ".join(sorted(self._servers))
            raise UnknownImage(
                f"no Girder is configured under the name in {name!r}", f"there are {known}"
            )
        if len(item) != 24 or not set(item) <= set("0123456789abcdef"):
            raise UnknownImage(f"{name!r} has no item id", "an id is 24 hex digits")
        return server, item

    def _place(
        self, server: Girder, connection: Connection, item: str, about: Future[object]
    ) -> Path | None:
        """Return the file of `item` where this machine sees it, whole.

        `about` fails where the caller may not read the item.
        """
        if not server.path_mapping or not server.token:
            return None
        headers = {"Isoline-Token": server.token}
        try:
            said = connection.json(f"isoline/item/{item}/file", **headers)
            return _mapped(server.path_mapping, str(said["path"]), int(said["size"]))
        except NotAllowed as error:
            if about.exception() is None:  # it is us whom Girder refuses
                log.warning("%s: is the token of [girder] the one in its settings?", error)
        except (IsolineError, KeyError, TypeError, ValueError):
            pass
        return None  # tiles will do


def _mapped(mapping: Mapping[str, Path], path: str, size: int) -> Path | None:
    """Return the file that `path` on Girder's machine is here, if it is there and of that size."""
    for prefix in sorted(mapping, key=len, reverse=True):
        if not path.startswith(prefix):
            continue
        directory = mapping[prefix].resolve()
        here = (directory / path[len(prefix) :].lstrip("/")).resolve()
        if here.is_relative_to(directory) and here.is_file() and here.stat().st_size == size:
            return here
    return None


def _remote(url: str, item: str, caller: Caller, tiles: Any, files: Any) -> GirderImage:
    """Return the image that large_image's metadata `tiles` and Girder's `files` describe."""
    try:
        dtype, frames = tiles.get("dtype", "uint8"), tiles.get("frames") or [{}]
        if dtype != "uint8" or len(frames) > 1 or tiles.get("bandCount", 3) not in (3, 4):
            raise Unreadable(
                f"item {item} has {len(frames)} images of {tiles.get('bandCount')} x {dtype}",
                "through Girder's tiles only 8-bit colour is read: map the path of its files",
            )
        whole = (int(tiles["sizeX"]), int(tiles["sizeY"]))
        side = (int(tiles["tileWidth"]), int(tiles["tileHeight"]))
        count = int(tiles["levels"])
        digest = _fingerprint(files)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Unreadable(
            f"Girder's description of item {item} lacks {error}", "is it a large image?"
        ) from error
    if not (0 < max(side) <= MAX_TILE_SIDE and min(*side, *whole, count) > 0 and count <= 32):
        raise Unreadable(f"item {item} has {count} levels of {whole} in tiles of {side}")
    levels = tuple(level(whole, size) for size in _sizes(whole, count))
    mm = tiles.get("mm_x"), tiles.get("mm_y")
    spacing = believable(*(each and each * 1000 for each in mm))
    info = ImageInfo(
        reader=SCHEME,
        fingerprint=digest,
        kind="slide" if tiles.get("magnification") else "image",
        levels=levels,
        spacing_um=spacing,
        channels=RGB,
        dtype=np.dtype(np.uint8),
        background=white(np.dtype(np.uint8)),
        problems=(*scale_problems(levels), *(() if spacing else (NO_SPACING,))),
    )
    zooms = tuple(range(count - 1, count - 1 - len(levels), -1))
    return GirderImage(url, item, caller.tokens.get(SCHEME, ""), side, zooms, info)


def _sizes(whole: tuple[int, int], count: int) -> Iterator[tuple[int, int]]:
    """Yield the size of each level; what halving leaves over at the far sides is dropped."""
    width, height = whole
    for halvings in range(count):
        if width >> halvings and height >> halvings:
            yield width >> halvings, height >> halvings


def _fingerprint(files: Any) -> str:
    """Return a digest that changes when a file does: of hashes where Girder has them, else of ids.

    Girder's ids are never used twice, and a file whose content is replaced changes its date.
    """
    digest = hashlib.blake2b(digest_size=20)
    for file in sorted(files, key=lambda file: str(file["_id"])):
        own = file.get("sha512") or (file["_id"], file.get("updated") or file["created"])
        digest.update(repr((own, file["size"])).encode())
    return digest.hexdigest()
