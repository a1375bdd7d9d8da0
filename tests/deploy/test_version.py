"""One version, wherever it stands; a tag says the same."""

import re
import subprocess
import tomllib
from pathlib import Path

import service

ROOT = Path(__file__).parents[2]

# Where it stands besides `service.__version__`, and in what.
ELSEWHERE = {
    "CITATION.cff": r"^version: (\S+)$",
    "Dockerfile": r"^ARG VERSION=(\S+)$",
    "README.md": r"lookwhen-([\d.]+)-py3-none-any\.whl",
}


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == service.__version__
    for name, pattern in ELSEWHERE.items():
        found = re.findall(pattern, (ROOT / name).read_text(), re.M)
        assert found == [service.__version__], name


def test_a_tag_of_this_commit_is_the_version() -> None:
    """A release is tagged `v` and its version; between releases there is nothing to compare."""
    done = subprocess.run(
        ["git", "tag", "--points-at", "HEAD", "--list", "v[0-9]*"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    for tag in done.stdout.split():
        assert tag == f"v{service.__version__}"
        assert f"## {service.__version__}" in (ROOT / "CHANGELOG.md").read_text()
