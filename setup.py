"""What pyproject.toml cannot say: the wheel carries the plugins, which lie beside the package."""

from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = {
    # where `isoline.server.routes.ohif_plugin` looks for it
    "plugins/ohif/src": "isoline/server/web/ohif",
    "plugins/qupath/isoline.groovy": "isoline/cli/plugins/qupath/isoline.groovy",
    "plugins/dsa": "isoline/cli/plugins/dsa",
}
LEFT_OUT = {"__pycache__", "build", "dist"}


class WithPlugins(build_py):
    """Puts the plugins' files below the package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # in a checkout they are found where they lie
            for origin, target in CARRIED.items():
                self._carry(Path(origin), Path(self.build_lib, target))

    def _carry(self, origin: Path, target: Path) -> None:
        if origin.is_dir():
            for each in sorted(origin.iterdir()):
                if each.name not in LEFT_OUT and each.suffix != ".egg-info":
                    self._carry(each, target / each.name)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            copyfile(origin, target)


setup(cmdclass={"build_py": WithPlugins})
