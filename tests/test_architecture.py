"""Imports run one way, and the serving process stays free of torch."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each package may import of ours besides itself. The network and the service must agree on
# how many tokens a sparsity keeps and how many views there are: on arithmetic, and on nothing else.
# What its command prints on is every command's.
ALLOWED = {
    "startup": set(),
    "bundle": set(),
    "model": {"startup", "bundle.tokens", "bundle.sampling"},
    "video": {"bundle"},
    "networks": {"model", "bundle.tokens", "bundle.sampling"},
    "training": {"startup", "model", "networks", "video", "bundle"},
    "export": {"startup", "model", "networks", "bundle"},
    "service": {"startup", "bundle", "video"},
    "lookwhen": {"startup", "bundle", "model", "networks", "video", "training", "export",
                 "service"},
}  # fmt: skip

# The same for the groups of the service.
SERVICE_GROUPS = {
    "errors": set(),
    "engine": set(),
    "decoding": {"errors"},
    "admission": {"errors"},
    "settings": {"decoding", "engine"},
    "sparsity": {"errors", "admission"},
    "observability": {"errors", "decoding", "engine"},
    "pipeline": {"errors", "decoding", "engine", "admission", "settings", "sparsity",
                 "observability"},
    "http": {"errors", "decoding", "engine", "settings", "sparsity", "observability", "pipeline"},
}  # fmt: skip

# What decode workers alone import, and what of the package `video` the serving process may.
DECODES = ("service/decoding/worker.py", "service/decoding/live_worker.py")
PLAIN = ("video.facts", "video.places", "video.passages", "video.live_facts", "video.errors")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, also inside functions and under TYPE_CHECKING."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_allowed(name: str, package: str) -> bool:
    allowed = {package} | ALLOWED[package]
    return any(
        # `import bundle` on the way to `bundle.tokens` is no more than that.
        name == entry or name.startswith(entry + ".") or entry.startswith(name + ".")
        for entry in allowed
    )


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_run_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        for name in imports(path):
            if name.split(".")[0] in ALLOWED:
                assert is_allowed(name, package), f"{path.relative_to(ROOT)} imports {name}"


def test_the_groups_of_the_service_are_all_there_are() -> None:
    found = {path.name for path in (ROOT / "service").iterdir() if any(path.glob("*.py"))}
    assert found == set(SERVICE_GROUPS)


@pytest.mark.parametrize("group", sorted(SERVICE_GROUPS))
def test_imports_within_the_service_run_one_way(group: str) -> None:
    allowed = {"service"} | {f"service.{name}" for name in (group, *SERVICE_GROUPS[group])}
    for path in sorted((ROOT / "service" / group).rglob("*.py")):
        for name in imports(path):
            if name.startswith("service.") and name != "service.__version__":
                of = ".".join(name.split(".")[:2])
                assert of in allowed, f"{path.relative_to(ROOT)} imports {name}"


# The kinds of data sets have one table, which names the renderer's reader without importing it.
RENDERS = "training/moving_things"
THIN = {"training/supervised.py"}  # the command of before, at its old name


def test_training_knows_nothing_of_the_renderer() -> None:
    for path in sorted((ROOT / "training").rglob("*.py")):
        relative = path.relative_to(ROOT).as_posix()
        if relative.startswith(RENDERS) or relative in THIN:
            continue
        for name in imports(path):
            assert not name.startswith("training.moving_things"), f"{relative} imports {name}"


def test_no_two_public_classes_of_one_name() -> None:
    """In what serves and trains, what a name means does not depend on where it is read."""
    found: dict[str, str] = {}
    for package in ("bundle", "export", "model", "networks", "service", "training", "video"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in parsed(path).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    here = path.relative_to(ROOT).as_posix()
                    assert node.name not in found, f"{node.name}: {here}, {found[node.name]}"
                    found[node.name] = here


def test_only_decode_workers_import_torch_in_the_service() -> None:
    for path in sorted((ROOT / "service").rglob("*.py")):
        relative = path.relative_to(ROOT).as_posix()
        for name in imports(path):
            heavy = name.startswith("video.") and not name.startswith(PLAIN)
            if heavy or name.split(".")[0] in ("torch", "torchcodec"):
                assert relative in DECODES, f"{relative} imports {name}"


@pytest.mark.parametrize(
    "files",
    ["bundle/*.py", "video/facts.py", "video/places.py", "video/live_facts.py", "video/errors.py"],
)
def test_what_the_serving_process_imports_is_free_of_torch(files: str) -> None:
    found = sorted(ROOT.glob(files))
    assert found
    for path in found:
        heavy = {name.split(".")[0] for name in imports(path)} & {"torch", "torchcodec"}
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy}"


def test_torchcodec_is_imported_in_one_place() -> None:
    """Which leaves torch's compiler out."""
    for package in ("service", "training", "video"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path != ROOT / "video" / "codec.py":
                found = {name.split(".")[0] for name in imports(path)} & {"torchcodec"}
                assert not found, path.relative_to(ROOT)


@pytest.mark.slow
def test_the_serving_process_never_imports_torch(tmp_path: Path) -> None:
    """After a clip has gone all the way through the application's own pipeline."""
    script = """
import asyncio, subprocess, sys
from pathlib import Path
from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from service.http.app import create_app
from service.http.body import ClipSink
from service.pipeline.way import Call, Received
from service.settings import load_settings

clip = Path(sys.argv[1])

class Source:
    async def read_clip(self, block):
        sink = ClipSink(block)
        sink.write(clip.read_bytes())
        return Received(sink.finish())
    async def gone(self):
        await asyncio.Event().wait()

async def main():
    # Importing torch in the worker takes minutes on a machine that does much else.
    settings = load_settings({"decode_workers": 1, "decode_start_timeout_seconds": 300})
    app = create_app(read_bundle(default_bundle_path()), settings)
    pipeline = app.state.pipeline
    await pipeline.start()
    answer = await pipeline.classify(
        Call(Source(), [("sparsity", "0.9")], "id"), lambda answered: answered
    )
    assert len(answer.outcome.steps) == 1
    await pipeline.stop()

asyncio.run(main())
found = sorted({name.split(".")[0] for name in sys.modules} & {"torch", "torchcodec", "training"})
assert not found, found
print("clean")
"""
    clip = tmp_path / "clip.mp4"
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i",
         "testsrc2=size=64x64:rate=10:duration=1", "-pix_fmt", "yuv420p", str(clip)],
        check=True,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, str(clip)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == "clean\n", done.stderr


def test_the_tour_tells_the_truth() -> None:
    """CONTRIBUTING names files that exist, and of each group of the service what it may import."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    tour = text.partition("## The ten-minute tour")[2].partition("## Layout")[0]
    files = re.findall(r"^\d\. `([^`]+)`", tour, re.MULTILINE)
    assert len(files) == 5
    assert all((ROOT / file).is_file() for file in files)
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", tour, re.MULTILINE)
    above: set[str] = set()
    for group, may in rows:
        named = set(re.findall(r"`(\w+)`", may))
        allowed = above - named if "all above" in may else named
        assert allowed == SERVICE_GROUPS[group], group
        above.add(group)
    assert above == set(SERVICE_GROUPS)
