"""A data directory says which formats it holds: older ones are migrated, newer ones refused."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from isoline import __version__
from isoline.cli.main import main
from isoline.config import data_directory
from isoline.config.data_directory import (
    LOCK_FILE,
    VERSION_FILE,
    open_data_directory,
)
from isoline.config.file_lock import Exclusive
from isoline.config.migrations import MIGRATIONS, Migration
from isoline.errors import Conflict

CARDS = "jobs/*/card.json"


def written_by(version: int) -> Callable[[bytes], bytes]:
    """Return a rewriting that says which one it was, and refuses what it was not made for."""

    def rewrite(content: bytes) -> bytes:
        assert content.endswith(b"%d" % (version - 1)), content
        return content + b"%d" % version

    return rewrite


TO_2, TO_3 = Migration(CARDS, written_by(2)), Migration(CARDS, written_by(3))


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Three jobs in formats 1, as they were written before there was a version."""
    for name in "abc":
        (tmp_path / "jobs" / name).mkdir(parents=True)
        (tmp_path / "jobs" / name / "card.json").write_bytes(name.encode() + b"1")
        (tmp_path / "jobs" / name / "journal").write_bytes(b"stays")
    return tmp_path


def formats(directory: Path) -> int:
    return int(json.loads((directory / VERSION_FILE).read_bytes())["formats"])


def cards(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(directory.glob(CARDS))]


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_new_directory_has_todays_formats(tmp_path: Path) -> None:
    open_data_directory(tmp_path / "new" / "data", [TO_2])
    assert formats(tmp_path / "new" / "data") == 2
    said = json.loads((tmp_path / "new" / "data" / VERSION_FILE).read_bytes())
    assert said["isoline"] == __version__


def test_todays_formats_are_left_alone(older: Path) -> None:
    open_data_directory(older, [])
    before = files(older)
    assert formats(older) == 1
    open_data_directory(older, [])
    assert files(older) == before


def test_one_without_a_version_is_migrated_and_what_it_was_is_kept(older: Path) -> None:
    before = files(older)
    open_data_directory(older, [TO_2, TO_3])
    assert formats(older) == 3
    assert cards(older) == [b"a123", b"b123", b"c123"]
    assert cards(older / "backup" / "formats-1") == [b"a1", b"b1", b"c1"]
    assert cards(older / "backup" / "formats-2") == [b"a12", b"b12", b"c12"]
    after = files(older)
    assert {name for name in before if after[name] != before[name]} == {
        f"jobs/{name}/card.json" for name in "abc"
    }


def test_only_what_is_missing_is_migrated(older: Path) -> None:
    open_data_directory(older, [TO_2])
    open_data_directory(older, [TO_2, TO_3])
    assert cards(older) == [b"a123", b"b123", b"c123"]


@pytest.mark.parametrize("writes", range(9))
def test_one_that_was_interrupted_goes_on(
    older: Path, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed before each of its writes: backups, cards, the version."""
    replace, left = data_directory._replace, writes

    def killed(path: Path, content: bytes) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        replace(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(data_directory, "_replace", killed)
        with pytest.raises(KeyboardInterrupt):
            open_data_directory(older, [TO_2, TO_3])
    open_data_directory(older, [TO_2, TO_3])
    assert formats(older) == 3
    assert cards(older) == [b"a123", b"b123", b"c123"]
    assert cards(older / "backup" / "formats-1") == [b"a1", b"b1", b"c1"]


def test_what_changed_since_an_interruption_is_not_lost(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older isoline goes on with a directory whose migration was interrupted."""
    with monkeypatch.context() as patch:
        patch.setattr(data_directory, "_state", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            open_data_directory(older, [TO_2])
    (older / "jobs" / "b" / "card.json").write_bytes(b"later1")
    open_data_directory(older, [TO_2])
    assert cards(older) == [b"a12", b"later12", b"c12"]
    assert cards(older / "backup" / "formats-1") == [b"a1", b"later1", b"c1"]


def test_one_in_use_is_not_migrated(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_directory, "_WAIT_SECONDS", 0.2)
    held = Exclusive(older / LOCK_FILE)
    with pytest.raises(Conflict, match="another server is using"):
        open_data_directory(older, [TO_2])
    held.close()
    assert cards(older) == [b"a1", b"b1", b"c1"]


def test_a_newer_one_is_refused_in_one_line_and_left_alone(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"formats": len(MIGRATIONS) + 2, "isoline": "9.1"}
    (older / VERSION_FILE).write_text(json.dumps(said))
    before = files(older)
    monkeypatch.setenv("ISOLINE_DATA", str(older))
    ran = CliRunner().invoke(main, ["serve", "--images", str(older)])
    assert ran.exit_code == 2
    what, remedy = ran.stderr.splitlines()
    assert f"{older} has formats {said['formats']}, written by isoline 9.1" in what
    assert remedy.strip() == "install that version or a later one, or choose another `data`"
    assert files(older) == before


@pytest.mark.parametrize("command", ["models", "demo", "segment slide.tif --model click --out x"])
def test_whoever_uses_the_directory_looks_at_its_version(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / VERSION_FILE).write_text('{"formats": 99}')
    monkeypatch.setenv("ISOLINE_DATA", str(tmp_path))
    ran = CliRunner().invoke(main, command.split())
    assert ran.exit_code == 2
    assert "has formats 99" in ran.stderr


@pytest.mark.parametrize(
    ("said", "lane"),
    [
        ({"prompted": True, "urgent": True}, 0),
        ({"prompted": False, "urgent": True}, 1),
        ({"urgent": False}, 2),
    ],
)
def test_cards_of_formats_1_get_a_lane(tmp_path: Path, said: dict[str, bool], lane: int) -> None:
    card = tmp_path / "jobs" / "a" / "card.json"
    card.parent.mkdir(parents=True)
    card.write_text(json.dumps({"owner": "me", **said}))
    open_data_directory(tmp_path)
    assert json.loads(card.read_bytes()) == {"owner": "me", "lane": lane}


@pytest.mark.parametrize("card", [b"", b"{", b"[]", b'{"lane": 1}'])
def test_what_is_no_card_of_formats_1_stays_as_it_is(tmp_path: Path, card: bytes) -> None:
    path = tmp_path / "jobs" / "a" / "card.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(card)
    open_data_directory(tmp_path)
    assert path.read_bytes() == card


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"formats": "2"}', '{"formats": 0}'])
def test_a_version_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / VERSION_FILE).write_text(text)
    with pytest.raises(Conflict, match="does not state the version"):
        open_data_directory(tmp_path)


@pytest.fixture
def read_only(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file system of this process is read-only, even for root."""
    opened = Path.open

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def only_reading(path: Path, mode: str = "r", *more: object, **named: object) -> object:
        if mode not in ("r", "rb"):
            refuse()
        return opened(path, mode)

    monkeypatch.setattr(Path, "open", only_reading)
    monkeypatch.setattr(Path, "mkdir", refuse)


@pytest.mark.usefixtures("read_only")
class TestReadOnly:
    def test_todays_formats_can_be_used(self, older: Path) -> None:
        open_data_directory(older, [])
        assert not (older / VERSION_FILE).exists()

    def test_one_that_is_not_there_is_not_missed(self, tmp_path: Path) -> None:
        open_data_directory(tmp_path / "none", [])
        assert not (tmp_path / "none").exists()

    def test_older_ones_cannot_be_migrated(self, older: Path) -> None:
        with pytest.raises(Conflict, match="cannot be migrated: Read-only file system"):
            open_data_directory(older, [TO_2])
        assert cards(older) == [b"a1", b"b1", b"c1"]


def test_a_directory_that_cannot_be_made_is_needed_only_by_a_server(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    open_data_directory(tmp_path / "file/data")
    with pytest.raises(Conflict, match=r"file/data cannot be used.*ISOLINE_DATA"):
        open_data_directory(tmp_path / "file/data", keeps_state=True)
