"""axe-core looks at a page, as wide as a phone and as a desk, in light and in dark."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from browser import Browser

_LOOK = (
    "axe.run({resultTypes: ['violations']}).then(({violations, passes}) => "
    "({passed: passes.length, violations: violations.map(({id, help, nodes}) => "
    "({id, help, nodes: nodes.map(({html, failureSummary}) => [html.slice(0, 200), "
    "failureSummary])}))}))"
)


def script() -> str:
    """axe-core's script; the package around it, which asks for another browser, is not imported."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.submodule_search_locations
    return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text("utf-8")


def looks(page: Browser) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Each width and scheme with what axe finds: violations, and how many rules passed."""
    page.run(script() + "; true")
    for width in (360, 1280):
        page.resize(width, 800)
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            # Colours that fade from one scheme to the other are not those of either.
            page.wait("document.getAnimations().length === 0")
            yield width, scheme, page.run(_LOOK)
    page.resize(1280, 800)
