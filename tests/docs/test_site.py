"""The documentation as a site: built with warnings as errors, and complete without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//[^>]*>")
"""What a browser fetches by itself from another origin."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={"PATH": "", "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    return {
        path.relative_to(site).as_posix(): path.read_text(encoding="utf-8")
        for path in site.rglob("*.html")
    }


def test_every_page_is_there(pages: dict[str, str]) -> None:
    written = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    pages_of = {path for path in written if path.parts[0] != "examples"}  # those have READMEs
    expected = {path.with_suffix(".html").as_posix() for path in pages_of}
    assert expected | {"changelog.html", "contributing.html"} <= set(pages)


def test_no_page_loads_anything_from_elsewhere(pages: dict[str, str]) -> None:
    assert {name: LOADED.findall(text) for name, text in pages.items() if LOADED.search(text)} == {}


def test_code_is_set_as_code(pages: dict[str, str]) -> None:
    """Python-Markdown leaves the fence of a block that it does not understand in the text."""
    assert [name for name, text in pages.items() if "```" in text] == []
    written = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    fences = re.findall(r"^```json", written, re.MULTILINE)
    assert fences
    assert pages["protocol.html"].count('<div class="highlight">') == len(fences)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (
            "client",
            [
                "isoline_client.client.Client.submit",
                "isoline_client.client.Client.upload_volume",
                "isoline_client.job.Job.events",
                "isoline_client.follower.Follower.drain",
                "isoline_client.store.Store.take",
                "isoline_client.runs.Run.again",
                "isoline_client.clicks.ClickSession.poll",
                "isoline_client.masks.paint",
                "isoline_client.images.ImageInfo",
                "isoline_client.pyramid.SlideLevel",
            ],
        ),
        ("models", ["isoline.models.model.ModelSpec", "isoline.models.model.Model.infer"]),
        ("sources", ["isoline.sources.source.Source.read_level"]),
        ("exports", ["isoline.exports.encoder.Encoder.features"]),
        ("events", ["isoline.domain.events.Contours"]),
        ("testing", ["isoline.testing.contracts.models.ModelContract"]),
    ],
)
def test_the_reference_describes_what_plugins_use(
    pages: dict[str, str], page: str, words: list[str]
) -> None:
    text = pages[f"reference/{page}.html"]
    assert [word for word in words if f'id="{word}' not in text] == []


def test_a_link_out_of_the_docs_is_text_and_one_to_a_page_a_link(pages: dict[str, str]) -> None:
    assert "plugins/qupath/API.md" in pages["qupath.html"]
    assert 'href="../plugins' not in pages["qupath.html"]
    assert 'href="contributing.html"' in pages["index.html"]
    assert 'href="protocol.html#prompts"' in pages["prompts.html"]


def test_the_hooks_of_pre_commit_are_valid_and_local() -> None:
    config = ROOT / ".pre-commit-config.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", config],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^ *- repo: *(.*)$", config.read_text(encoding="utf-8"), re.M) == ["local"]
