"""The same plugin in Girder 5: what its routes promise there, by the tests of Girder 3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser

from tests import browser
from tests.dsa.builds import GIRDER_5
from tests.dsa.conftest import OURS, Archive, serving_archive
from tests.dsa.pages import SLOW, log_in, save_and_test_settings
from tests.dsa.test_rest import (  # noqa: F401  # pytest runs them here with this file's archive
    test_a_copy_that_was_read_too_early_cannot_be_saved,
    test_a_run_survives_girder,
    test_a_run_that_is_submitted_again_is_the_same,
    test_a_second_run_replaces_what_nobody_touched,
    test_an_annotation_is_locked_while_it_grows,
    test_discard_leaves_nothing,
    test_events_are_passed_on_as_they_come,
    test_no_secret_is_told,
    test_what_is_stored_is_what_the_server_found,
    test_who_may_not_write_may_only_look,
)
from tests.dsa.test_source import (  # noqa: F401
    source,
    test_pixels_are_those_of_the_file,
    test_rights_are_girders,
)


@pytest.fixture(scope="module")
def running_archive(
    tmp_path_factory: pytest.TempPathFactory, real_slide: Path
) -> Iterator[Archive]:
    with serving_archive(tmp_path_factory, real_slide, GIRDER_5) as archive:
        yield archive


def test_it_is_girder_5(archive: Archive) -> None:
    assert archive.admin.call("GET", "system/version")["release"].startswith("5.")


def test_the_page_loads_the_panel(archive: Archive) -> None:
    content = archive.admin.call("GET", "system/plugin_static_files")
    (script,) = [url for url in content["js"] if "isoline" in url]
    (style,) = [url for url in content["css"] if "isoline" in url]
    for url, holds in ((script, "Segment what I see"), (style, "#isoline-panel")):
        assert holds in requests.get(f"{archive.stack.url}/{url}", timeout=60).text


def test_settings_are_saved_and_tried(archive: Archive, chromium: Browser) -> None:
    with browser.page_of(chromium, errors_of=OURS) as page:
        page.set_default_timeout(SLOW)
        log_in(page, archive.stack.url, "admin")
        save_and_test_settings(page, archive.stack.url, archive.isoline_url)
