"""`docs/configuration.md` shows every key with its true default; isoline.toml is read strictly."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from isoline.config import settings as config
from isoline.config.settings import Oidc, Settings, Token
from isoline.errors import Malformed

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SECTIONS = ("server", "engine", "limits", "monailabel")


def load(tmp_path: Path, text: str, **environment: str) -> Settings:
    path = tmp_path / "isoline.toml"
    path.write_text(text, encoding="utf-8")
    return config.load(path, environment)


def test_the_defaults_on_the_page_are_the_defaults(tmp_path: Path) -> None:
    shown, default = load(tmp_path, BLOCKS[-1]), Settings()
    for section in SECTIONS:
        assert getattr(shown, section) == getattr(default, section)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_shown_and_explained(section: str) -> None:
    fields = dataclasses.fields(getattr(Settings(), section))
    assert len(fields) > 0
    for field in fields:
        assert f"\n{field.name} = " in BLOCKS[-1]
        assert f"| `{section}.{field.name}` |" in PAGE


def test_every_section_is_shown() -> None:
    fields = dataclasses.fields(Settings)
    assert {"server", "limits", "images"} < {field.name for field in fields}
    for field in fields:
        assert re.search(rf"^\[?{field.name}\b", "".join(BLOCKS), re.MULTILINE), field.name


def test_callers_as_on_the_page(tmp_path: Path) -> None:
    (block,) = (block for block in BLOCKS if "[oidc]" in block)
    settings = load(tmp_path, block)
    assert settings.tokens["ann"].scopes == Token("").scopes
    assert settings.oidc == Oidc()
    for field in dataclasses.fields(Oidc):
        assert f"| `oidc.{field.name}` |" in PAGE


def test_roots_and_file_uris_as_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "teaching").mkdir()
    (tmp_path / "slides").mkdir()
    roots = BLOCKS[0].replace("/data/slides", (tmp_path / "slides").as_posix())
    settings = load(tmp_path / "conf", roots + BLOCKS[1])
    assert settings.images["slides"] == tmp_path / "slides"
    assert settings.images["teaching"].resolve() == tmp_path / "teaching"
    assert settings.file_uris["//archive/teaching"] == "teaching/2024"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[server]\nprot = 1\n", "unknown key server.prot; did you mean server.port?"),
        ("[limits]\nstreams = 1.5\n", "limits.streams: expected an integer"),
        ("[limits]\nstreams = true\n", "limits.streams: expected an integer"),
        ("[serve]\n", "unknown key serve; did you mean server?"),
        ('[server]\nhost = "0.0.0.0"\n', "refusing to listen on 0.0.0.0 without a token"),
        ('[images]\n"a/b" = "."\n', "a root's name is one word"),
        ('[images]\na = "nowhere"\n', "is not a directory"),
        ("[server\n", "is not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(Malformed, match=re.escape(problem)):
        load(tmp_path, text)


WRONG = ("'x'", "1", "1.5", "true", "[]", "['x']", "[1]", "{}", "{a = 1}", "{a = 'x'}", "nan",
         "-inf", "9" * 30, "2026-01-01", "07:30:00")  # fmt: skip
KEYS = [
    *(field.name for field in dataclasses.fields(Settings)),
    *(
        f"{section}.{field.name}"
        for section in (*SECTIONS, "oidc")
        for field in dataclasses.fields(getattr(Settings(), section))
    ),
    *("girder.a.url", "girder.a.path_mapping", "girder.a.token", "girder.a", "tokens.a"),
    *("dicomweb.a.headers", "dicomweb.a.timeout_seconds", "bundles.a.path", "bundles.a.run_code"),
    *("tokens.a.sha256", "tokens.a.scopes", "images.a", "file_uris.a"),
]


@pytest.mark.parametrize("key", KEYS)
def test_whatever_stands_there_is_taken_or_refused_in_our_own_words(
    tmp_path: Path, key: str
) -> None:
    refusals = []
    for value in WRONG:
        try:
            load(tmp_path, f"{key} = {value}\n")
        except Malformed as error:
            refusals.append(str(error))
    assert len(refusals) >= 6
    place = rf"{key.split('.')[0]}\b|refusing to listen"
    assert all(re.search(place, refusal) for refusal in refusals)
    assert not re.search("pydantic|Input should|something else", "\n".join(refusals))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[server]\nhosts = ['a', 1]\n", "server.hosts[1]: expected a string, got 1"),
        (
            "[engine]\ndevice = 3\n",
            "engine.device: expected a string, got 3; see docs/configuration",
        ),
        ("[server]\nzzz = 1\n", "unknown key server.zzz; known: host, port, token"),
        ("[girder.a]\nurll = ''\n", "unknown key girder.a.urll; did you mean girder.a.url?"),
        ("[girder.a]\n", "girder.a has no url"),
        ("[girder.a]\nurl = 'ftp://x'\n", "girder.a.url: 'ftp://x' is not an address"),
        ("[dicomweb.a]\nurl = 'x'\n", "dicomweb.a.url: 'x' is not an address"),
        (
            "[dicomweb.a]\nurl = 'http://x'\nheaders = {a = 1}\n",
            "dicomweb.a.headers.a: expected a string",
        ),
        ("[tokens.ann]\n", "tokens.ann has no sha256; `isoline token new` prints one"),
        ("[tokens.ann]\nsha256 = 'x'\n", "tokens.ann.sha256 is not a SHA-256"),
        ("[file_uris]\n'//a/b' = 3\n", "file_uris.'//a/b': expected a string, got 3"),
        ("[bundles]\na = 3\n", "bundles.a: expected a table, got 3"),
        ("[bundles]\na = 'nowhere'\n", "bundles.a: "),
        ("[monailabel]\ntrusted = ['x']\n", "monailabel.trusted: 'x' is not an address"),
        ("server = 3\n", "server: expected a table, got 3"),
    ],
)
def test_every_mistake_has_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(Malformed, match=re.escape(problem)):
        load(tmp_path, text)


def test_paths_are_counted_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    settings = load(
        tmp_path,
        "data = 'd'\n[girder.a]\nurl = 'https://a/'\ntoken = 't'\npath_mapping = {'/x' = 'y'}\n"
        "[oidc]\nissuer = 'i'\naudience = 'a'\njwks = 'keys.json'\n[monailabel]\n"
        "datastore = '~/store'\n[bundles]\nb = 'bundle'\n",
    )
    assert settings.data == tmp_path / "d"
    assert settings.girder["a"].path_mapping == {"/x": tmp_path / "y"}
    assert settings.girder["a"].url == "https://a"
    assert settings.oidc.jwks == str(tmp_path / "keys.json")
    assert settings.monailabel.datastore == str(Path.home() / "store")
    assert settings.bundles["bundle:b"].path == tmp_path / "bundle"


def test_whole_hours_are_hours(tmp_path: Path) -> None:
    assert load(tmp_path, "[limits]\njob_hours = 2\n").limits.job_hours == 2.0


def test_the_token_of_the_environment_wins(tmp_path: Path) -> None:
    text = '[server]\nhost = "0.0.0.0"\ntoken = "a"\n'
    assert load(tmp_path, text, ISOLINE_TOKEN="b").server.token == "b"


def test_a_girder_has_a_token_of_its_own_or_the_servers(tmp_path: Path) -> None:
    server = '[server]\ntoken = "a"\n'
    girder = '[girder.archive]\nurl = "https://archive.example"\n'
    mapping = 'path_mapping = {"/assets" = "."}\n'
    assert load(tmp_path, server + girder).girder["archive"].token == "a"
    own = load(tmp_path, server + girder + mapping + 'token = "b"\n').girder["archive"]
    assert own.token == "b"
    assert "'b'" not in repr(own)
    with pytest.raises(Malformed, match="a path_mapping but no token"):
        load(tmp_path, girder + mapping)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="cannot read"):
        config.load(tmp_path / "isoline.toml")
