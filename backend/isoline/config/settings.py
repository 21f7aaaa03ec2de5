"""What an administrator can set: `isoline.toml`, and the token in the environment."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from isoline.config.data_directory import default_directory
from isoline.errors import Malformed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
SCOPES = ("view", "run", "save", "admin")
"""What a token may allow: read; run and cancel jobs; keep results; see what is not one's own."""


@dataclass(frozen=True)
class Server:
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
class Token:
    """[tokens.NAME]: a caller who presents a token."""

    sha256: str
    """Of the token, as `isoline token new` prints it."""
    scopes: tuple[str, ...] = ("view", "run")


@dataclass(frozen=True)
class Oidc:
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
class Engine:
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
class Limits:
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
class MonaiLabel:
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
class Girder:
    """[girder.NAME]: a Digital Slide Archive whose slides are called `girder:NAME/ITEM`."""

    url: str
    """Where its pages begin: without /api/v1."""
    path_mapping: Mapping[str, Path] = field(default_factory=dict)
    """Path prefix on Girder's machine = directory here that holds the same files."""
    token: str = field(default="", repr=False)
    """The token in the plugin's settings: the plugin tells paths to whoever knows it. Without one
    it is server.token."""


@dataclass(frozen=True)
class DicomWeb:
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
class BundleSettings:
    """[bundles.NAME]: where a MONAI bundle lies, and whether its configuration may run code."""

    path: Path
    """A directory, or a TorchScript file."""
    run_code: bool = False
    """Whether `_target_` and `$` in its configuration are followed: whoever wrote it then does on
    this machine what they like."""


@dataclass(frozen=True)
class Settings:
    """Everything in `isoline.toml`."""

    images: Mapping[str, Path] = field(default_factory=dict)
    """[images]: root name = directory; an image is called `root/path/below/it`."""
    file_uris: Mapping[str, str] = field(default_factory=dict)
    """[file_uris]: prefix of file URIs or paths as viewers know them = root, or root/folder."""
    data: Path = field(default_factory=default_directory)
    """Where weights, sample data, surveys and jobs are kept."""
    server: Server = Server()
    engine: Engine = Engine()
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
        _root_name(name): _girder(given, f"girder.{name}", base, server.token)
        for name, given in _expect(table.pop("girder", {}), dict, "girder").items()
    }
    monailabel = _monailabel(table.pop("monailabel", {}), base)
    tokens = {
        name: _token(given, f"tokens.{name}")
        for name, given in _expect(table.pop("tokens", {}), dict, "tokens").items()
    }
    oidc = _oidc(table.pop("oidc", {}), base)
    dicomweb = {
        _root_name(name): _dicomweb(given, f"dicomweb.{name}")
        for name, given in _expect(table.pop("dicomweb", {}), dict, "dicomweb").items()
    }
    bundles = {
        BUNDLE_PREFIX + _root_name(name): _bundle(given, f"bundles.{name}", base)
        for name, given in _expect(table.pop("bundles", {}), dict, "bundles").items()
    }
    data = table.pop("data", None)
    sections = (
        *("server", "engine", "limits", "girder", "monailabel", "tokens", "oidc", "dicomweb"),
        "bundles",
    )
    _refuse_unknown(table, ("images", "file_uris", "data", *sections), "")
    where = (base / _expect(data, str, "data")).expanduser() if data is not None else None
    data_directory = where or default_directory()
    return Settings(
        images,
        file_uris,
        data_directory,
        server,
        engine,
        limits,
        girder,
        monailabel,
        tokens,
        oidc,
        dicomweb,
        bundles,
    )


def _root_name(name: str) -> str:
    if not name or "/" in name:
        raise Malformed(f"images.{name!r}: a root's name is one word without '/'", "rename it")
    return name


def _girder(table: object, name: str, base: Path, server_token: str) -> Girder:
    given = _expect(table, dict, name)
    _refuse_unknown(given, ("url", "path_mapping", "token"), f"{name}.")
    url = _expect(given.get("url", ""), str, f"{name}.url").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise Malformed(f"{name}.url: {url!r} is no address", 'write "https://archive.example"')
    prefixes = _expect(given.get("path_mapping", {}), dict, f"{name}.path_mapping")
    mapping = {
        prefix: (base / _expect(directory, str, f"{name}.path_mapping")).expanduser()
        for prefix, directory in prefixes.items()
    }
    token = _expect(given.get("token", ""), str, f"{name}.token") or server_token
    if mapping and not token:
        raise Malformed(
            f"{name} has a path_mapping and no token, so the plugin will tell it no path",
            "set token there to the one in the plugin's settings",
        )
    return Girder(url, mapping, token)


def _token(table: object, name: str) -> Token:
    given = _expect(table, dict, name)
    if "sha256" not in given:
        raise Malformed(f"{name} has no sha256", "`isoline token new` prints one")
    token: Token = _section(Token, given, name)
    if len(token.sha256) != 64 or not set(token.sha256) <= set("0123456789abcdef"):
        raise Malformed(f"{name}.sha256 is no SHA-256", "`isoline token new` prints one")
    for scope in token.scopes:
        if scope not in SCOPES:
            raise Malformed(f"{name}.scopes: {scope!r}", f"the scopes are {', '.join(SCOPES)}")
    return token


def _oidc(table: object, base: Path) -> Oidc:
    given: Oidc = _section(Oidc, table, "oidc")
    if not given.issuer:
        return given
    if not given.audience or not given.jwks:
        raise Malformed("oidc needs audience and jwks too", "see docs/hospital.md")
    if given.jwks.startswith("http://"):
        raise Malformed("oidc.jwks: keys that come over http prove nothing", "write https://")
    if given.jwks.startswith("https://"):
        return given
    return dataclasses.replace(given, jwks=str((base / given.jwks).expanduser()))


def _monailabel(table: object, base: Path) -> MonaiLabel:
    given: MonaiLabel = _section(MonaiLabel, table, "monailabel")
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
    return dataclasses.replace(given, datastore=str((base / given.datastore).expanduser()))


def _dicomweb(table: object, name: str) -> DicomWeb:
    given = _expect(table, dict, name)
    _refuse_unknown(given, ("url", "headers", "timeout_seconds"), f"{name}.")
    url = _expect(given.get("url", ""), str, f"{name}.url").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise Malformed(f"{name}.url: {url!r} is no address", 'write "https://archive.example"')
    headers = _expect(given.get("headers", {}), dict, f"{name}.headers")
    for key, value in headers.items():
        _expect(value, str, f"{name}.headers.{key}")
    silence = _convert(given.get("timeout_seconds", 30.0), float, f"{name}.timeout_seconds")
    return DicomWeb(url, headers, cast(float, silence))


def _bundle(given: object, name: str, base: Path) -> BundleSettings:
    """Read a path, or a table of `path` and `run_code`."""
    table = _expect({"path": given} if isinstance(given, str) else given, dict, name)
    _refuse_unknown(table, ("path", "run_code"), f"{name}.")
    path = (base / Path(_expect(table.get("path", ""), str, f"{name}.path"))).expanduser()
    if not table.get("path") or not path.exists():
        raise Malformed(f"{name}: there is no {path}", "name a bundle's directory or its file")
    return BundleSettings(path, _expect(table.get("run_code", False), bool, f"{name}.run_code"))


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
