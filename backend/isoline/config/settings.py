"""What an administrator can set: `isoline.toml`, and the token in the environment."""

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
"""What a token may allow: read; run and cancel jobs; keep results; see what is not one's own."""


class Section:
    """What is read from a table of `isoline.toml`: no other keys, and no type for another."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class ServerSettings(Section):
    """[server]: where it listens and who may call."""

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = ""
    """What callers present as `Authorization: Bearer TOKEN`; needed to leave loopback."""
    allow_origins: tuple[str, ...] = ()
    """Origins whose pages may call (CORS); none by default."""
    hosts: tuple[str, ...] = ()
    """Names under which it may be called; on loopback the names of loopback are among them."""
    certificate: str = ""
    key: str = ""
    """Files of a TLS certificate chain and its key, for a server without a proxy before it."""
    json_log: bool = False
    """Write the log as JSON, one object a line."""


@dataclass(frozen=True)
class Token(Section):
    """[tokens.NAME]: a caller who presents a token."""

    sha256: str
    """Of the token, as `isoline token new` prints it."""
    scopes: tuple[str, ...] = ("view", "run")


@dataclass(frozen=True)
class Oidc(Section):
    """[oidc]: an OpenID Connect issuer whose tokens are accepted."""

    issuer: str = ""
    """As the tokens say it in `iss`; without one there is no issuer."""
    audience: str = ""
    """What the tokens have to say in `aud`: this server's name at the issuer."""
    jwks: str = ""
    """Where its keys are: an https address or a file."""
    user_claim: str = "sub"
    scope_claim: str = "scope"
    scope_prefix: str = ""
    """What stands before view, run, save and admin in the scopes of the issuer."""


@dataclass(frozen=True)
class EngineSettings(Section):
    """[engine]: where tiles run."""

    workers: int = 0
    """Worker processes; 0 means one per core."""
    device: str = "auto"
    """Where networks run: "cpu", "cuda:N", or "auto" for every GPU there is."""
    urgent_workers: int = 1
    """Worker processes that take small regions only, so that a click never waits behind a slide."""
    tile_seconds: float = 120.0
    """A worker that needs longer for one tile is killed; 0 means no limit."""
    memory_mib: int = 0
    """A worker that grows larger is killed; 0 means no limit."""
    seen_mib: int = 512
    """What a worker keeps of what prompts made it read and compute, so that another is quick."""

    @property
    def worker_count(self) -> int:
        return self.workers or _cores()


@dataclass(frozen=True)
class Limits(Section):
    """[limits]: how much one server takes on."""

    body_mib: int = 8
    running_jobs: int = 4
    urgent_jobs: int = 16
    """Small regions that compute at once, beside `running_jobs`."""
    queued_jobs: int = 100
    queued_jobs_per_user: int = 50
    """So many of them may be of one user, where users are known."""
    streams: int = 128
    """Event streams open at once, enough for all who run or wait; short requests have threads of
    their own."""
    prompt_streams: int = 32
    """Those of answers to prompts, beside `streams`: who follows slides keeps nobody from clicking.
    """
    stalled_seconds: float = 300.0
    """Who reads nothing of an answer for so long loses the connection; 0 means no limit."""
    requests_per_second: float = 100.0
    """For each token; 0 means no limit."""
    job_hours: float = 24.0
    """How long a finished job can be replayed."""
    uploads: int = 32
    """Uploads kept at once."""
    upload_pixels: int = 200_000_000
    """The largest upload; its tiles are kept as PNG."""
    upload_hours: float = 24.0
    """How long an upload is kept after its last use."""
    volume_mib: int = 2048
    """The largest volume, as 4 bytes a voxel."""
    volume_cache_mib: int = 8192
    """How much of fetched volumes is kept on the disk; what was not used for longest goes first."""
    region_pixels: int = 4096 * 4096
    """The largest picture that `/v1/images/NAME/region` renders."""


@dataclass(frozen=True)
class MonaiLabel(Section):
    """[monailabel]: the API of MONAI Label, for the clients that speak it."""

    enabled: bool = True
    prefix: str = "/"
    """Where its routes begin."""
    datastore: str = ""
    """Directory of images and labels; without it one below `data`."""
    trusted: tuple[str, ...] = ()
    """Addresses or networks that may call /infer/wsi without a token: its client sends none."""
    upload_mib: int = 1024
    """The largest image that may be sent."""
    waiting: int = 16
    """Callers that wait for an answer at once; each has a thread of its own."""
    sessions: int = 32
    """Sessions kept at once."""
    session_hours: float = 1.0
    """How long a session is kept after its last use."""
    spacing_um: float = 0.0
    """Micrometres per pixel of an image for which nobody states it; 0 means unknown."""


@dataclass(frozen=True)
class Girder(Section):
    """[girder.NAME]: a Digital Slide Archive whose slides are called `girder:NAME/ITEM`."""

    url: str
    """Where its pages begin: without /api/v1."""
    path_mapping: Mapping[str, Path] = field(default_factory=dict)
    """Path prefix on Girder's machine = directory here that holds the same files."""
    token: str = field(default="", repr=False)
    """The token in the plugin's settings: the plugin tells paths to whoever knows it. Without one
    it is server.token."""


@dataclass(frozen=True)
class DicomWeb(Section):
    """[dicomweb.NAME]: an archive whose series are called `dicomweb:NAME/STUDY/SERIES`."""

    url: str
    """Where DICOMweb answers, without /studies."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request; what grants access."""
    timeout_seconds: float = 30.0
    """Longest silence of the archive."""


BUNDLE_PREFIX = "bundle:"
"""Before the configured name, in the name of the model."""


@dataclass(frozen=True)
class BundleSettings(Section):
    """[bundles.NAME]: where a MONAI bundle lies, and whether its configuration may run code."""

    path: Path
    """A directory, or a TorchScript file."""
    run_code: bool = False
    """Whether `_target_` and `$` in its configuration are followed: whoever wrote it then does on
    this machine what they like."""


@dataclass(frozen=True)
class Settings(Section):
    """Everything in `isoline.toml`."""

    images: Mapping[str, Path] = field(default_factory=dict)
    """[images]: root name = directory; an image is called `root/path/below/it`."""
    file_uris: Mapping[str, str] = field(default_factory=dict)
    """[file_uris]: prefix of file URIs or paths as viewers know them = root, or root/folder."""
    data: Path = field(default_factory=default_directory)
    """Where weights, sample data, surveys and jobs are kept."""
    server: ServerSettings = ServerSettings()
    engine: EngineSettings = EngineSettings()
    limits: Limits = Limits()
    girder: Mapping[str, Girder] = field(default_factory=dict)
    monailabel: MonaiLabel = MonaiLabel()
    tokens: Mapping[str, Token] = field(default_factory=dict)
    oidc: Oidc = Oidc()
    dicomweb: Mapping[str, DicomWeb] = field(default_factory=dict)
    bundles: Mapping[str, BundleSettings] = field(default_factory=dict)
    """[bundles]: MONAI bundles by the names of the models that they are, `bundle:NAME`."""

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
    """Read `path`, or the defaults where it is None; ISOLINE_TOKEN overrides server.token.

    Raises Malformed, naming the key, for anything that is not understood.
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
        raise Malformed(f"{path} is not TOML: {error}", "mend that line") from error
    return table


def _typed(table: Mapping[str, object]) -> Settings:
    """Return what `table` says, its types right and nothing else looked at."""
    # they take longer to import than `isoline --version` takes to run
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import to_json

    try:
        # from JSON, in which pydantic lets lists and tables stand for tuples and dataclasses
        # however strict it is
        return TypeAdapter(Settings).validate_json(to_json(table, inf_nan_mode="constants"))
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    # a key that is misspelt explains one that is missing
    first = min(mistakes, key=lambda mistake: mistake["type"] != _UNKNOWN_KEY)
    raise _explained(first["type"], first["loc"], first["input"])


_UNKNOWN_KEY, _MISSING_KEY = "unexpected_keyword_argument", "missing"
_REMEDIES = {"sha256": "`isoline token new` prints one"}
_SEE = "see docs/configuration.md"


def _explained(kind: str, steps: Sequence[str | int], value: object) -> Malformed:
    """Return in our own words what pydantic calls a mistake of this `kind`."""
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
    "int_type": "int",
    "int_from_float": "int",
    "int_parsing_size": "int",
    "float_type": "float",
    "bool_type": "bool",
    "string_type": "str",
    "path_type": "str",
    "tuple_type": "list",
    "dict_type": "dict",
    "mapping_type": "dict",
    "dataclass_type": "dict",
}
"""What belongs in a place, by what pydantic calls a mistake there."""


def _section_at(steps: Sequence[str | int]) -> type[Any]:
    """Return the dataclass at a place in Settings."""
    kind: Any = Settings
    for step in steps:
        is_section = dataclasses.is_dataclass(kind)
        kind = get_type_hints(kind)[str(step)] if is_section else get_args(kind)[1]
    section: type[Any] = kind
    return section


def _place(steps: Sequence[str | int]) -> str:
    """Return how an error names a place: server.hosts[0]."""
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            word = step if re.fullmatch(r"[\w-]+", step) else repr(step)
            path += f".{word}" if path else word
    return path


# --- What the keys say together ----------------------------------------------------------------


def _resolved(given: Settings, base: Path) -> Settings:
    """Return `given` with its paths counted from `base`. Raises Malformed for what cannot be."""
    images = {_word(name): _path(base, directory) for name, directory in given.images.items()}
    for name, directory in images.items():
        if not directory.is_dir():
            raise Malformed(f"images.{name}: {directory} is not a directory", "mend the path")
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
        raise Malformed(f"{name}.url: {url!r} is no address", 'write "https://archive.example"')
    return url.rstrip("/")


def _girder(given: Girder, name: str, base: Path, server_token: str) -> Girder:
    token = given.token or server_token
    if given.path_mapping and not token:
        raise Malformed(
            f"{name} has a path_mapping and no token, so the plugin will tell it no path",
            "set token there to the one in the plugin's settings",
        )
    mapping = {prefix: _path(base, folder) for prefix, folder in given.path_mapping.items()}
    return Girder(_address(given.url, name), mapping, token)


def _check_token(token: Token, name: str) -> None:
    if len(token.sha256) != 64 or not set(token.sha256) <= set("0123456789abcdef"):
        raise Malformed(f"{name}.sha256 is no SHA-256", _REMEDIES["sha256"])
    for scope in token.scopes:
        if scope not in SCOPES:
            raise Malformed(f"{name}.scopes: {scope!r}", f"the scopes are {', '.join(SCOPES)}")


def _oidc(given: Oidc, base: Path) -> Oidc:
    if not given.issuer:
        return given
    if not given.audience or not given.jwks:
        raise Malformed("oidc needs audience and jwks too", "see docs/hospital.md")
    if given.jwks.startswith("http://"):
        raise Malformed("oidc.jwks: keys that come over http prove nothing", "write https://")
    if given.jwks.startswith("https://"):
        return given
    return dataclasses.replace(given, jwks=str(_path(base, given.jwks)))


def _monailabel(given: MonaiLabel, base: Path) -> MonaiLabel:
    for address in given.trusted:
        try:
            ipaddress.ip_network(address)
        except ValueError as error:
            raise Malformed(
                f"monailabel.trusted: {address!r} is no address: {error}",
                'write "10.1.2.3" or "10.1.0.0/16"',
            ) from error
    if not given.datastore:
        return given
    return dataclasses.replace(given, datastore=str(_path(base, given.datastore)))


def _bundle(given: BundleSettings, name: str, base: Path) -> BundleSettings:
    path = _path(base, given.path)
    if not path.exists():
        raise Malformed(f"{name}: there is no {path}", "name a bundle's directory or its file")
    return dataclasses.replace(given, path=path)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
