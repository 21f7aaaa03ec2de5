"""The administrator's settings: `isoline.toml`, and the token in the environment."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

from isoline.config.data_directory import default_directory
from isoline.errors import Malformed, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
SCOPES = ("view", "run", "save", "admin")
"""The permissions of a token: to read, to run and cancel jobs, to store results, and to do all this
with the jobs of others."""


class Section:
    """A table of `isoline.toml`, validated without unknown keys and without type coercion."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class ServerSettings(Section):
    """[server]: where the server listens and who may call it."""

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = ""
    """The token that callers present as `Authorization: Bearer TOKEN`; required off loopback."""
    allow_origins: tuple[str, ...] = ()
    """Origins whose pages may call the server from a browser (CORS)."""
    hosts: tuple[str, ...] = ()
    """Names under which the server may be called; on loopback, those of loopback are included."""
    certificate: str = ""
    key: str = ""
    """Files of a TLS certificate chain and its key, for a server that is not behind a proxy."""
    json_log: bool = False
    """Whether to write the log as JSON, one object per line."""


@dataclass(frozen=True)
class Token(Section):
    """[tokens.NAME]: a caller that presents a token."""

    sha256: str
    """The hexadecimal SHA-256 of the token, as printed by `isoline token new`."""
    scopes: tuple[str, ...] = ("view", "run")


@dataclass(frozen=True)
class Oidc(Section):
    """[oidc]: an OpenID Connect issuer whose tokens are accepted."""

    issuer: str = ""
    """The issuer, as in `iss` of its tokens; if empty, no issuer is accepted."""
    audience: str = ""
    """The required value of `aud`: this server's name at the issuer."""
    jwks: str = ""
    """The location of the issuer's keys: an https address or a file."""
    user_claim: str = "sub"
    """The claim that names the user."""
    scope_claim: str = "scope"
    """The claim that lists the scopes, as one string or a list."""
    scope_prefix: str = ""
    """The prefix of view, run, save and admin in that claim."""


@dataclass(frozen=True)
class EngineSettings(Section):
    """[engine]: where tiles are computed."""

    workers: int = 0
    """The number of worker processes; 0 means one per core."""
    device: str = "auto"
    """Where networks run: "cpu", "cuda:N", or "auto" for every available GPU."""
    urgent_workers: int = 1
    """The number of additional worker processes for prompts and small regions only, so that a click
    never waits behind a slide."""
    tile_seconds: float = 120.0
    """A worker that takes longer over one tile is killed; 0 means no limit."""
    memory_mib: int = 0
    """A worker that grows larger is killed; 0 means no limit."""
    seen_mib: int = 512
    """The size of each worker's cache of what it read and computed for prompts."""

    @property
    def worker_count(self) -> int:
        return self.workers or _cores()


@dataclass(frozen=True)
class Limits(Section):
    """[limits]: the load that one server accepts."""

    body_mib: int = 8
    """The largest request body."""
    running_jobs: int = 4
    """The number of jobs that compute at the same time."""
    urgent_jobs: int = 16
    """The number of small regions that compute at the same time, in addition to `running_jobs`."""
    queued_jobs: int = 100
    """The number of jobs that may wait."""
    queued_jobs_per_user: int = 50
    """The number of them that may belong to one user, where users are known."""
    streams: int = 128
    """The number of event streams open at the same time, enough for all running and waiting jobs;
    short requests have their own threads."""
    prompt_streams: int = 32
    """The same for responses to prompts, counted separately so that callers who follow slides do
    not delay a click."""
    stalled_seconds: float = 300.0
    """A caller that reads nothing of a response for this long is disconnected; 0 means no limit."""
    requests_per_second: float = 100.0
    """The limit per token; 0 means no limit."""
    job_hours: float = 24.0
    """How long a finished job can be replayed."""
    uploads: int = 32
    """The number of uploads kept at the same time."""
    upload_pixels: int = 200_000_000
    """The largest upload; its tiles are stored as PNG."""
    upload_hours: float = 24.0
    """How long an upload is kept after its last use."""
    volume_mib: int = 2048
    """The largest volume, at 4 bytes per voxel."""
    volume_cache_mib: int = 8192
    """The size of the disk cache of retrieved volumes; the least recently used is deleted first."""
    region_pixels: int = 4096 * 4096
    """The largest picture that `/v1/images/NAME/region` renders."""


@dataclass(frozen=True)
class MonaiLabel(Section):
    """[monailabel]: the API of MONAI Label, for its clients."""

    enabled: bool = True
    prefix: str = "/"
    """The prefix of its routes."""
    datastore: str = ""
    """The directory of images and labels; by default one below `data`."""
    trusted: tuple[str, ...] = ()
    """Addresses or networks that may call /infer/wsi without a token, since its client sends none.
    """
    upload_mib: int = 1024
    """The largest image that may be sent."""
    waiting: int = 16
    """The number of callers that wait for a response at the same time; each has its own thread."""
    sessions: int = 32
    """The number of sessions kept at the same time."""
    session_hours: float = 1.0
    """How long a session is kept after its last use."""
    spacing_um: float = 0.0
    """Micrometres per pixel of an image if neither its file nor the client gives it; 0 means
    unknown."""


@dataclass(frozen=True)
class Girder(Section):
    """[girder.NAME]: a Digital Slide Archive whose slides are named `girder:NAME/ITEM`."""

    url: str
    """The address of the archive, without /api/v1."""
    path_mapping: Mapping[str, Path] = field(default_factory=dict)
    """Path prefix on Girder's machine = directory here that holds the same files."""
    token: str = field(default="", repr=False)
    """The token in the plugin's settings, which the plugin requires to reveal paths; server.token
    by default."""


@dataclass(frozen=True)
class DicomWeb(Section):
    """[dicomweb.NAME]: an archive whose series are named `dicomweb:NAME/STUDY/SERIES`."""

    url: str
    """The address of DICOMweb, without /studies."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request, e.g. to grant access."""
    timeout_seconds: float = 30.0
    """How long the archive may send nothing."""


BUNDLE_PREFIX = "bundle:"
"""The prefix of the configured name in the name of the model."""


@dataclass(frozen=True)
class BundleSettings(Section):
    """[bundles.NAME]: the path of a MONAI bundle, and whether its configuration may run code."""

    path: Path
    """A directory, or a TorchScript file."""
    run_code: bool = False
    """Whether to evaluate `_target_` and `$` in its configuration. Its author can then run any code
    on this server."""


@dataclass(frozen=True)
class Settings(Section):
    """All settings in `isoline.toml`."""

    images: Mapping[str, Path] = field(default_factory=dict)
    """[images]: root name = directory; an image is named `root/path/below/it`."""
    file_uris: Mapping[str, str] = field(default_factory=dict)
    """[file_uris]: prefix of file URIs or paths as viewers see them = root, or root/folder."""
    data: Path = field(default_factory=default_directory)
    """The directory for weights, sample data, surveys, jobs and uploads."""
    server: ServerSettings = ServerSettings()
    engine: EngineSettings = EngineSettings()
    limits: Limits = Limits()
    girder: Mapping[str, Girder] = field(default_factory=dict)
    monailabel: MonaiLabel = MonaiLabel()
    tokens: Mapping[str, Token] = field(default_factory=dict)
    oidc: Oidc = Oidc()
    dicomweb: Mapping[str, DicomWeb] = field(default_factory=dict)
    bundles: Mapping[str, BundleSettings] = field(default_factory=dict)
    """[bundles]: MONAI bundles by the names of their models, `bundle:NAME`."""

    def __post_init__(self) -> None:
        asks = self.server.token or self.tokens or self.oidc.issuer
        if self.server.host not in LOOPBACK and not asks:
            raise Malformed(
                f"refusing to listen on {self.server.host} without a token",
                "set [tokens] (see `isoline token new`), [oidc] or ISOLINE_TOKEN, "
                "or listen on 127.0.0.1",
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

    @property
    def volumes(self) -> Path:
        return self.data / "volumes"


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read `path`, or return the defaults if it is None; ISOLINE_TOKEN overrides server.token.

    Raises Malformed, which names the key, for an unknown key or an invalid value.
    """
    table = {} if path is None else _toml(path)
    base = path.parent if path is not None else Path.cwd()
    if environment.get("ISOLINE_TOKEN"):
        server = table.setdefault("server", {})
        if isinstance(server, dict):
            server["token"] = environment["ISOLINE_TOKEN"]
    if isinstance(data := table.get("data"), str):
        table["data"] = str(_path(base, data))
    if isinstance(bundles := table.get("bundles"), dict):
        table["bundles"] = {
            name: {"path": given} if isinstance(given, str) else given
            for name, given in bundles.items()
        }
    return _resolved(_typed(table), base)


def _toml(path: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Malformed(f"cannot read {path}: {error.strerror}", "check --config") from error
    except tomllib.TOMLDecodeError as error:
        raise Malformed(f"{path} is not TOML: {error}", "correct that line") from error
    return table


def _typed(table: Mapping[str, object]) -> Settings:
    """Return the settings in `table` with only their types validated."""
    # importing these takes longer than `isoline --version` takes to run
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import to_json

    try:
        # from JSON, since even in strict mode pydantic then accepts lists for tuples and objects
        # for dataclasses
        return TypeAdapter(Settings).validate_json(to_json(table, inf_nan_mode="constants"))
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    # a misspelt key explains a missing one
    first = min(mistakes, key=lambda mistake: mistake["type"] != _UNKNOWN_KEY)
    raise _explained(first["type"], first["loc"], first["input"])


_UNKNOWN_KEY, _MISSING_KEY = "unexpected_keyword_argument", "missing"
_REMEDIES = {"sha256": "`isoline token new` prints one"}
_SEE = "see docs/configuration.md"


def _explained(kind: str, steps: Sequence[str | int], value: object) -> Malformed:
    """Return the error for a pydantic error of this `kind`, in isoline's own words."""
    *owner, key = steps
    if kind == _UNKNOWN_KEY:
        known = [field.name for field in dataclasses.fields(_section_at(owner))]
        near = nearest(str(key), known)
        hint = f"did you mean {_place([*owner, near])}?" if near else f"known: {', '.join(known)}"
        return Malformed(f"unknown key {_place(steps)}", hint)
    if kind == _MISSING_KEY:
        return Malformed(f"{_place(owner)} has no {key}", _REMEDIES.get(str(key), _SEE))
    return Malformed(f"{_place(steps)}: expected {_WANTED[kind]}, got {value!r}", _SEE)


_WANTED: Mapping[str, str] = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing_size": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "path_type": "a string",
    "tuple_type": "an array",
    "dict_type": "a table",
    "mapping_type": "a table",
    "dataclass_type": "a table",
}
"""The type that is expected, in the terms of TOML, by the kind of pydantic's error."""


def _section_at(steps: Sequence[str | int]) -> type[Any]:
    """Return the dataclass at a location in Settings."""
    kind: Any = Settings
    for step in steps:
        is_section = dataclasses.is_dataclass(kind)
        kind = get_type_hints(kind)[str(step)] if is_section else get_args(kind)[1]
    section: type[Any] = kind
    return section


def _place(steps: Sequence[str | int]) -> str:
    """Return a location in the settings as errors give it, e.g. `server.hosts[0]`."""
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            word = step if re.fullmatch(r"[\w-]+", step) else repr(step)
            path += f".{word}" if path else word
    return path


# --- Values and their combinations -------------------------------------------------------------


def _resolved(given: Settings, base: Path) -> Settings:
    """Validate `given`, and return it with paths relative to `base` resolved. Raises Malformed."""
    images = {_word(name): _path(base, directory) for name, directory in given.images.items()}
    for name, directory in images.items():
        if not directory.is_dir():
            raise Malformed(f"images.{name}: {directory} is not a directory", "correct the path")
    for prefix, folder in given.file_uris.items():
        if folder.split("/")[0] not in images:
            raise Malformed(
                f"file_uris.{prefix!r}: {folder!r} does not begin with a root of [images]",
                f"the roots are {', '.join(images) or 'none'}",
            )
    for name, token in given.tokens.items():
        _check_token(token, f"tokens.{name}")
    return dataclasses.replace(
        given,
        images=images,
        girder={
            _word(name): _girder(each, f"girder.{name}", base, given.server.token)
            for name, each in given.girder.items()
        },
        monailabel=_monailabel(given.monailabel, base),
        oidc=_oidc(given.oidc, base),
        dicomweb={
            _word(name): dataclasses.replace(each, url=_address(each.url, f"dicomweb.{name}"))
            for name, each in given.dicomweb.items()
        },
        bundles={
            BUNDLE_PREFIX + _word(name): _bundle(each, f"bundles.{name}", base)
            for name, each in given.bundles.items()
        },
    )


def _path(base: Path, given: Path | str) -> Path:
    return base / Path(given).expanduser()


def _word(name: str) -> str:
    if not name or "/" in name:
        raise Malformed(f"images.{name!r}: a root's name is one word without '/'", "rename it")
    return name


def _address(url: str, name: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise Malformed(
            f"{name}.url: {url!r} is not an address", 'write e.g. "https://archive.example"'
        )
    return url.rstrip("/")


def _girder(given: Girder, name: str, base: Path, server_token: str) -> Girder:
    token = given.token or server_token
    if given.path_mapping and not token:
        raise Malformed(
            f"{name} has a path_mapping but no token, so the plugin would reveal no paths",
            f"set {name}.token to the token in the plugin's settings",
        )
    mapping = {prefix: _path(base, folder) for prefix, folder in given.path_mapping.items()}
    return Girder(_address(given.url, name), mapping, token)


def _check_token(token: Token, name: str) -> None:
    if len(token.sha256) != 64 or not set(token.sha256) <= set("0123456789abcdef"):
        raise Malformed(f"{name}.sha256 is not a SHA-256", _REMEDIES["sha256"])
    for scope in token.scopes:
        if scope not in SCOPES:
            raise Malformed(
                f"{name}.scopes: unknown scope {scope!r}", f"the scopes are {', '.join(SCOPES)}"
            )


def _oidc(given: Oidc, base: Path) -> Oidc:
    if not given.issuer:
        return given
    if not given.audience or not given.jwks:
        raise Malformed("oidc also needs audience and jwks", "see docs/hospital.md")
    if given.jwks.startswith("http://"):
        raise Malformed("oidc.jwks: keys sent over http cannot be trusted", "use https://")
    if given.jwks.startswith("https://"):
        return given
    return dataclasses.replace(given, jwks=str(_path(base, given.jwks)))


def _monailabel(given: MonaiLabel, base: Path) -> MonaiLabel:
    for address in given.trusted:
        try:
            ipaddress.ip_network(address)
        except ValueError as error:
            raise Malformed(
                f"monailabel.trusted: {address!r} is not an address or a network: {error}",
                'write e.g. "10.1.2.3" or "10.1.0.0/16"',
            ) from error
    if not given.datastore:
        return given
    return dataclasses.replace(given, datastore=str(_path(base, given.datastore)))


def _bundle(given: BundleSettings, name: str, base: Path) -> BundleSettings:
    path = _path(base, given.path)
    if not path.exists():
        raise Malformed(
            f"{name}: {path} does not exist", "give the path of the bundle's directory or file"
        )
    return dataclasses.replace(given, path=path)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
