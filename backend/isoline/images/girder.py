"""Slides in Girder (Digital Slide Archive): `girder:NAME/ITEM` to a mapped file or remote tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from isoline.config.settings import Girder
from isoline.errors import IsolineError, NotAllowed, UnknownImage, Unreadable
from isoline.images.catalog import Caller, Found
from isoline.sources.base import ImageInfo
from isoline.sources.girder import MAX_TILE_SIDE, SCHEME, Connection, GirderImage, log
from isoline.sources.pixel_size import NO_SPACING, believable
from isoline.sources.pyramid import RGB, level, scale_problems, white


class GirderImages:
    """Finds `girder:SERVER/ITEM`: a file that this machine can see, or tiles from Girder."""

    def __init__(
        self, servers: Mapping[str, Girder], describe: Callable[[Path], ImageInfo]
    ) -> None:
        """Serve the items of `servers`.

        `describe` returns the metadata of a file.
        """
        self._servers = dict(servers)
        self._describe = describe

    def find(self, name: str, caller: Caller) -> Found:
        """Return the image called `name` once Girder has confirmed that `caller` may read it."""
        server, item = self._item(name)
        connection = Connection(server.url, caller.tokens.get(SCHEME, ""))
        try:
            with ThreadPoolExecutor(4) as pool:  # one round trip instead of four
                about = pool.submit(connection.json, f"item/{item}")
                tiles = pool.submit(connection.json, f"item/{item}/tiles")
                files = pool.submit(connection.json, f"item/{item}/files")
                place = pool.submit(self._place, server, connection, item, about)
                about.result()  # first of all, Girder checks the caller's permissions
                path = place.result()
                if path is not None:
                    return Found(name, path, self._describe(path))
                remote = _remote(server.url, item, caller, tiles.result(), files.result())
        finally:
            connection.close()
        return Found(name, remote, remote.info)

    def check(self, name: str, caller: Caller) -> None:
        """Check with Girder whether `caller` may read the item."""
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
                f"no Girder server is configured under the name in {name!r}",
                f"configured names: {known}",
            )
        if len(item) != 24 or not set(item) <= set("0123456789abcdef"):
            raise UnknownImage(f"{name!r} has no valid item id", "an id is 24 hex digits")
        return server, item

    def _place(
        self, server: Girder, connection: Connection, item: str, about: Future[object]
    ) -> Path | None:
        """Return the file of `item` if this machine can see it, complete.

        `about` fails if the caller may not read the item.
        """
        if not server.path_mapping or not server.token:
            return None
        headers = {"Isoline-Token": server.token}
        try:
            place = connection.json(f"isoline/item/{item}/file", **headers)
            return _mapped(server.path_mapping, str(place["path"]), int(place["size"]))
        except NotAllowed as error:
            if about.exception() is None:  # the user may read it, but isoline's token was refused
                log.warning("%s: check that the token in [girder] is that in its settings", error)
        except (IsolineError, KeyError, TypeError, ValueError):
            pass
        return None  # fall back to tiles


def _mapped(mapping: Mapping[str, Path], path: str, size: int) -> Path | None:
    """Return the local path of `path` on Girder's machine, if it exists here with that size."""
    for prefix in sorted(mapping, key=len, reverse=True):
        if not path.startswith(prefix):
            continue
        directory = mapping[prefix].resolve()
        here = (directory / path[len(prefix) :].lstrip("/")).resolve()
        if here.is_relative_to(directory) and here.is_file() and here.stat().st_size == size:
            return here
    return None


def _remote(url: str, item: str, caller: Caller, tiles: Any, files: Any) -> GirderImage:
    """Return the image described by large_image's metadata `tiles` and Girder's `files`."""
    try:
        dtype, frames = tiles.get("dtype", "uint8"), tiles.get("frames") or [{}]
        if dtype != "uint8" or len(frames) > 1 or tiles.get("bandCount", 3) not in (3, 4):
            raise Unreadable(
                f"item {item} has {len(frames)} images of {tiles.get('bandCount')} x {dtype}",
                "Girder's tiles can be read only for 8-bit colour: map the path of its files",
            )
        whole = (int(tiles["sizeX"]), int(tiles["sizeY"]))
        side = (int(tiles["tileWidth"]), int(tiles["tileHeight"]))
        count = int(tiles["levels"])
        digest = _fingerprint(files)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Unreadable(
            f"Girder's description of item {item} lacks {error}",
            "check that the item is a large image",
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
    """Yield the size of each level; pixels left over by halving at the far sides are dropped."""
    width, height = whole
    for halvings in range(count):
        if width >> halvings and height >> halvings:
            yield width >> halvings, height >> halvings


def _fingerprint(files: Any) -> str:
    """Return a digest that changes when a file does: of hashes if Girder has them, else of ids.

    Girder never reuses an id, and a file whose content is replaced gets a new date.
    """
    digest = hashlib.blake2b(digest_size=20)
    for file in sorted(files, key=lambda file: str(file["_id"])):
        own = file.get("sha512") or (file["_id"], file.get("updated") or file["created"])
        digest.update(repr((own, file["size"])).encode())
    return digest.hexdigest()
