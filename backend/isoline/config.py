"""What an administrator can set: `isoline.toml`, and the token in the environment."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from isoline import datasets
from isoline.errors import Malformed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class Server:
    """[server]: where it listens and who may call."""

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = ""
    """What callers present as `Authorization: Bearer TOKEN`; needed to leave loopback."""
    allow_origins: tuple[str, ...] = ()
    """Origins whose pages may call (CORS); none by default."""


@dataclass(frozen=True)
class Engine:
    """[engine]: where tiles run."""

    workers: int = 0
    """Worker processes; 0 means one per core."""
    device: str = "cpu"

    @property
    def worker_count(self) -> int:
        return self.workers or _cores()


@dataclass(frozen=True)
class Limits:
    """[limits]: how much one server takes on."""

    body_mib: int = 8
    running_jobs: int = 4
    queued_jobs: int = 100
    streams: int = 32
    """Event streams open at once; short requests have threads of their own."""
    job_hours: float = 24.0
    """How long a finished job can be replayed."""
    uploads: int = 32
    """Uploads kept at once."""
    upload_pixels: int = 200_000_000
    """The largest upload; its tiles are kept as PNG."""
    upload_hours: float = 24.0
    """How long an upload is kept after its last use."""
    region_pixels: int = 4096 * 4096
    """The largest picture that `/v1/images/NAME/region` renders."""


@dataclass(frozen=True)
class Girder:
    """[girder.NAME]: a Digital Slide Archive whose slides are called `girder:NAME/ITEM`."""

    url: str
    """Where its pages begin: without /api/v1."""
    path_mapping: Mapping[str, Path] = field(default_factory=dict)
    """Path prefix on Girder's machine = directory here that holds the same files."""


@dataclass(frozen=True)
class Settings:
    """Everything in `isoline.toml`."""

    images: Mapping[str, Path] = field(default_factory=dict)
    """[images]: root name = directory; an image is called `root/path/below/it`."""
    file_uris: Mapping[str, str] = field(default_factory=dict)
    """[file_uris]: prefix of file URIs or paths as viewers know them = root, or root/folder."""
    data: Path = field(default_factory=datasets.default_directory)
    """Where weights, sample data, surveys and jobs are kept."""
    server: Server = Server()
    engine: Engine = Engine()
    limits: Limits = Limits()
    girder: Mapping[str, Girder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.server.host not in LOOPBACK and not self.server.token:
            raise Malformed(
                f"refusing to listen on {self.server.host} without a token",
                "set server.token (or ISOLINE_TOKEN), or listen on 127.0.0.1",
            )

    @property
    def weights(self) -> Path:
        return self.data / "weights"

    @property
    def jobs(self) -> Path:
        return self.data / "jobs"

    @property
    def uploads(self) -> Path:
        return self.data / "uploads"

    @property
    def surveys(self) -> Path:
        return self.data / "surveys"


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read `path`, or the defaults where it is None; ISOLINE_TOKEN overrides server.token.

    Raises Malformed, naming the key, for anything that is not understood.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise Malformed(f"cannot read {path}: {error.strerror}", "check --config") from error
        except tomllib.TOMLDecodeError as error:
            raise Malformed(f"{path} is not TOML: {error}", "mend that line") from error
    base = path.parent if path is not None else Path.cwd()
    images = {
        _root_name(name): (base / Path(_expect(directory, str, f"images.{name}"))).expanduser()
        for name, directory in _expect(table.pop("images", {}), dict, "images").items()
    }
    for name, directory in images.items():
        if not directory.is_dir():
            raise Malformed(f"images.{name}: {directory} is not a directory", "mend the path")
    file_uris = _expect(table.pop("file_uris", {}), dict, "file_uris")
    for prefix, folder in file_uris.items():
        if _expect(folder, str, f"file_uris.{prefix!r}").split("/")[0] not in images:
            raise Malformed(
                f"file_uris.{prefix!r}: {folder!r} does not begin with a root of [images]",
                f"the roots are {', '.join(images) or 'none'}",
            )
    server = _section(Server, table.pop("server", {}), "server")
    if environment.get("ISOLINE_TOKEN"):
        server = dataclasses.replace(server, token=environment["ISOLINE_TOKEN"])
    engine = _section(Engine, table.pop("engine", {}), "engine")
    limits = _section(Limits, table.pop("limits", {}), "limits")
    girder = {
        _root_name(name): _girder(given, f"girder.{name}", base)
        for name, given in _expect(table.pop("girder", {}), dict, "girder").items()
    }
    data = table.pop("data", None)
    _refuse_unknown(
        table, ("images", "file_uris", "data", "server", "engine", "limits", "girder"), ""
    )
    where = (base / _expect(data, str, "data")).expanduser() if data is not None else None
    return Settings(
        images, file_uris, where or datasets.default_directory(), server, engine, limits, girder
    )


def _root_name(name: str) -> str:
    if not name or "/" in name:
        raise Malformed(f"images.{name!r}: a root's name is one word without '/'", "rename it")
    return name


def _girder(table: object, name: str, base: Path) -> Girder:
    given = _expect(table, dict, name)
    _refuse_unknown(given, ("url", "path_mapping"), f"{name}.")
    url = _expect(given.get("url", ""), str, f"{name}.url").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise Malformed(f"{name}.url: {url!r} is no address", 'write "https://archive.example"')
    prefixes = _expect(given.get("path_mapping", {}), dict, f"{name}.path_mapping")
    mapping = {
        prefix: (base / _expect(directory, str, f"{name}.path_mapping")).expanduser()
        for prefix, directory in prefixes.items()
    }
    return Girder(url, mapping)


def _section(kind: type[Any], table: object, name: str) -> Any:
    given = _expect(table, dict, name)
    hints = get_type_hints(kind)
    _refuse_unknown(given, tuple(hints), f"{name}.")
    values = {key: _convert(value, hints[key], f"{name}.{key}") for key, value in given.items()}
    return kind(**values)


def _convert(value: object, kind: Any, where: str) -> object:
    if isinstance(kind, types.GenericAlias):
        item = get_args(kind)[0]
        return tuple(_expect(each, item, where) for each in _expect(value, list, where))
    if kind is float and type(value) is int:
        return float(value)
    return _expect(value, kind, where)


def _expect(value: object, kind: type[Any], where: str) -> Any:
    if type(value) is not kind:
        raise Malformed(
            f"{where}: expected {kind.__name__}, got {value!r}", "see docs/configuration.md"
        )
    return value


def _refuse_unknown(table: Mapping[str, object], known: tuple[str, ...], prefix: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1) or known
            raise Malformed(f"unknown key {prefix}{key}", f"did you mean {prefix}{near[0]}?")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
