"""What a release consists of, and what comes out of it where there is no repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import textwrap
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from isoline import __version__
from tests import release
from tests.release import ROOT, SUMS

pytestmark = pytest.mark.slow

TRACKED = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
).stdout.splitlines()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("release")
    release.build_all(out)
    return out


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it, and a folder that holds nothing else."""

    python: Path
    folder: Path

    def run(self, *command: str) -> str:
        """Run a command of this environment and return what it prints."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        ran = subprocess.run(
            [str(self.python.with_name(command[0])), *command[1:]],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, and what it needs from the environment of the tests, but not isoline's source."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=os.name != "nt")
    python = home / ("Scripts" if os.name == "nt" else "bin") / Path(sys.executable).name
    (packages,) = home.glob("**/site-packages")
    shared = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "shared.pth").write_text("\n".join(shared))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    (wheel,) = built.glob("isoline-[0-9]*.whl")
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True, timeout=240)
    return Installed(python, tmp_path_factory.mktemp("elsewhere"))


def test_the_same_source_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        release.build_all(tmp_path)
    finally:
        os.umask(before)
    sums = (built / SUMS).read_text()
    assert (tmp_path / SUMS).read_text() == sums
    assert [line.split()[1] for line in sums.splitlines()] == sorted(
        (path.name for path in built.iterdir() if path.name != SUMS),
        key=lambda name: (name.endswith(".gz"), name),
    )


def test_each_distribution_is_a_wheel_and_an_sdist_with_its_licence(built: Path) -> None:
    folders = [each for each in release.DISTRIBUTIONS if (ROOT / each / "pyproject.toml").exists()]
    wheels, sdists = list(built.glob("*.whl")), list(built.glob("*.tar.gz"))
    assert len(wheels) == len(sdists) == len(folders) >= 2
    for path in wheels:
        assert any(name.endswith("/LICENSE") for name in zipfile.ZipFile(path).namelist())
    for path in sdists:
        with tarfile.open(path) as packed:
            assert any(name.endswith("/LICENSE") for name in packed.getnames())


def test_the_wheel_carries_the_package_and_the_plugins(built: Path) -> None:
    carried = {
        "backend/isoline": "isoline",
        "plugins/ohif/src": "isoline/server/web/ohif",
        "plugins/dsa": "isoline/cli/plugins/dsa",
        "plugins/qupath/isoline.groovy": "isoline/cli/plugins/qupath/isoline.groovy",
    }
    expected = {
        target + name.removeprefix(origin)
        for origin, target in carried.items()
        for name in TRACKED
        if name == origin or name.startswith(f"{origin}/")
    }
    assert {"isoline/py.typed", "isoline/server/web/viewer.html"} <= expected
    (wheel,) = built.glob("isoline-[0-9]*.whl")
    files = {name for name in zipfile.ZipFile(wheel).namelist() if name.split("/")[0] == "isoline"}
    assert files == expected


def test_the_command_works_without_the_repository(installed: Installed) -> None:
    module = installed.run("python", "-c", "import isoline; print(isoline.__file__)").strip()
    assert Path(module).is_relative_to(installed.python.parents[1])
    assert installed.run("isoline", "--version") == f"isoline, version {__version__}\n"
    models = installed.run("isoline", "models").splitlines()
    assert {"nuclei", "tissue", "click", "threshold3d"} <= {line.split()[0] for line in models}


def test_the_plugin_of_ohif_is_served_from_the_wheel(installed: Installed) -> None:
    source = ROOT / "plugins" / "ohif" / "src"
    names = [path.relative_to(source).as_posix() for path in source.rglob("*.js")]
    asked = textwrap.dedent(
        f"""
        import json
        from flask import Flask
        from isoline.server.routes import ohif_plugin
        app = Flask("test")
        app.register_blueprint(ohif_plugin.blueprint())
        client = app.test_client()
        print(json.dumps({{name: client.get("/ohif/" + name).text for name in {names!r}}}))
        """
    )
    served = json.loads(installed.run("python", "-c", asked))
    assert served == {name: (source / name).read_text(encoding="utf-8") for name in names}
    assert "index.js" in served


def test_the_demo_runs_from_the_wheel(installed: Installed, real_slide: Path) -> None:
    installed.run("isoline", "demo", "--once")
    found = json.loads((installed.folder / "contours.geojson").read_text(encoding="utf-8"))
    assert len(found["features"]) > 1000
    assert (installed.folder / "contours.png").stat().st_size > 100_000
