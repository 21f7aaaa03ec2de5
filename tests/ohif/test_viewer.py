"""Unmodified OHIF finds the archive, the plugin's files and isoline at one origin."""

from __future__ import annotations

from playwright.sync_api import Browser

from tests.ohif.conftest import Series
from tests.ohif.stack import Stack


def test_it_opens_a_study(ohif: Stack, mr_head: Series, chromium: Browser) -> None:
    with ohif.opened(chromium, mr_head.study) as page:
        shown = page.evaluate("""() => {
            const { viewportGridService, cornerstoneViewportService } = window.services;
            const id = viewportGridService.getActiveViewportId();
            const viewport = cornerstoneViewportService.getCornerstoneViewport(id);
            const { dimensions } = viewport.getImageData();
            return [viewport.getImageIds().length, ...dimensions];
        }""")
    assert shown[:3] == [61, 61, 73]
