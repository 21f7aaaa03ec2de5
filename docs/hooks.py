"""What mkdocs.yml cannot say: pages from outside docs/, and links that read well on GitHub too."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Address in the site: file in the repository."""

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]+)?\)")

_FENCE = re.compile(r"^( *```\w+) .*$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie beside docs/."""
    for address, name in PAGES.items():
        text = (_repository(config) / name).read_text(encoding="utf-8")
        files.append(File.generated(config, address, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Files) -> str:
    """Point links between files of the repository at pages of the site.

    A link to a file that is no page becomes its text: nobody publishes the sources beside the site.
    What a fence says after its language is for the tests, and Python-Markdown stumbles over it.
    """
    here = page.file.src_uri
    place = PAGES.get(here, f"docs/{here}")
    addresses = {name: address for address, name in PAGES.items()}

    def translated(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        name = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        if name.startswith("docs/") or name in addresses:
            address = addresses.get(name, name.removeprefix("docs/"))
            return f"[{text}]({posixpath.relpath(address, posixpath.dirname(here))}{anchor})"
        # what does not exist stays a link, which a strict build refuses
        return text if (_repository(config) / name).exists() else link[0]

    return _LINK.sub(translated, _FENCE.sub(r"\1", markdown))


def _repository(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path).parent
