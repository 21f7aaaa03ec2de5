"""Translating the file URIs of desktop viewers to the server's image names.

A viewer knows a slide as `file:///S:/scans/a.svs`; on the server, the same file lies below a
configured root. `[file_uris]` in `isoline.toml` maps prefixes to folders of roots:

    [file_uris]
    'S:\\scans' = "slides"
    "//nas/pathology" = "slides/nas"
    "file:///home/me/slides" = "slides"

The URI is only a hint: whatever it contains, only files below a root are opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from isoline.errors import UnknownImage
from isoline.images.catalog import Caller, Found, Images

_REMEDY = "map its folder in [file_uris] of isoline.toml, or upload the pixels of the region"


@dataclass(frozen=True)
class _Place:
    """A folder or file on a user's machine, in a normalised form."""

    parts: tuple[str, ...]
    """The parts of an absolute path; a drive "c:" or a share "//server" comes first."""
    is_windows: bool

    @property
    def key(self) -> tuple[str, ...]:
        """A key by which to compare places: Windows paths are not case-sensitive."""
        return tuple(part.casefold() for part in self.parts) if self.is_windows else self.parts


class FileUris:
    """Finds `file:` names; a `Resolver`."""

    def __init__(self, folders: Mapping[str, str], images: Images) -> None:
        """Find files in `images` whose place begins with a key of `folders`.

        A key is a URI or a path, either Windows (drive or share) or POSIX; its value is the name of
        a root, optionally with a path below it.
        """
        places = {_place(prefix): folder.strip("/") for prefix, folder in folders.items()}
        # the longest first: a share may be mapped to one root, and one of its folders to another
        self._folders = sorted(places.items(), key=lambda item: -len(item[0].parts))
        self._images = images

    def find(self, name: str, caller: Caller) -> Found:
        """Return the file that the URI `name` refers to. Raises UnknownImage or NotAllowed."""
        place = _place(name)
        for prefix, folder in self._folders:
            depth = len(prefix.parts)
            if place.key[:depth] == prefix.key and ".." not in place.parts:
                return self._images.find("/".join((folder, *place.parts[depth:])), caller)
        raise UnknownImage(f"this server cannot see {name}", _REMEDY)


def _place(text: str) -> _Place:
    """Parse a file URI or an absolute path.

    Java writes `file:/C:/x` and `file:////server/share`, others `file:///C:/x` and
    `file://server/share`: they are equivalent.
    """
    if text.lower().startswith("file:"):
        path = unquote(text[5:])
        if path.startswith("//") and not path.startswith("////"):
            host, _, rest = path[2:].partition("/")
            path = f"/{rest}" if host in ("", "localhost") else f"//{host}/{rest}"
        path = "//" + path.lstrip("/") if path.startswith("//") else path
    else:
        path = text.replace("\\", "/")
    drive = re.match(r"/?([A-Za-z]:)(?:/|$)", path)
    is_share = path.startswith("//")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if is_share and parts:
        parts[0] = "//" + parts[0]
    return _Place(tuple(parts), is_share or drive is not None)
