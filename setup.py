"""What pyproject.toml cannot say: the wheel carries the OHIF plugin, which lies beside it."""

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py


class WithPlugin(build_py):
    """Puts the plugin's files where `isoline.server.routes.ohif_plugin` looks for them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # the server finds them in the checkout
            target = Path(self.build_lib, "isoline", "server", "web", "ohif")
            copytree("plugins/ohif/src", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithPlugin})
