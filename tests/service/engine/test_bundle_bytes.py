"""A service that is ready holds its weights once: in the sessions."""

import asyncio
import sys
from pathlib import Path

import pytest

from bundle.reader import read_bundle
from service.http.app import create_app
from service.settings import load_settings

pytestmark = pytest.mark.slow


def test_nothing_holds_the_graphs_bytes_once_it_is_ready(brightness_bundle: Path) -> None:
    bundle = read_bundle(brightness_bundle)
    graphs = (bundle.selector, bundle.extractor)
    del bundle
    unused = [sys.getrefcount(graph) for graph in graphs]
    bundle = read_bundle(brightness_bundle)
    graphs = (bundle.selector, bundle.extractor)
    quick = {"decode_workers": 1, "warm_up_seconds": 0, "calibration_seconds": 0}
    app = create_app(bundle, load_settings(quick))
    del bundle
    assert [sys.getrefcount(graph) for graph in graphs] > unused, "until it is ready"

    async def run() -> list[int]:
        async with app.router.lifespan_context(app):
            async with asyncio.timeout(120):
                while app.state.pipeline.not_ready_because() is not None:
                    await asyncio.sleep(0.05)
            return [sys.getrefcount(graph) for graph in graphs]

    assert asyncio.run(run()) == unused
