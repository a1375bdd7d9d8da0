"""The built-in bundles' names."""

from pathlib import Path

import pytest

from bundle.built_in import NAMES, default_bundle_path, find_bundle
from bundle.errors import BundleError
from bundle.reader import read_bundle


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_bundle_has_the_name_that_it_is_found_by(name: str) -> None:
    assert read_bundle(find_bundle(Path(name))).manifest.name == name


def test_without_a_name_it_is_moving_things() -> None:
    assert find_bundle(None) == default_bundle_path() == find_bundle(Path("moving_things"))


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moving_things").mkdir()
    assert find_bundle(Path("moving_things")) == Path("moving_things")


def test_another_word_is_refused_with_the_names() -> None:
    with pytest.raises(
        BundleError, match=r"no directory moving_thing, .*bundles are moving_things"
    ):
        find_bundle(Path("moving_thing"))


def test_a_path_is_the_readers_to_refuse(tmp_path: Path) -> None:
    assert find_bundle(tmp_path / "moving_things") == tmp_path / "moving_things"
    assert find_bundle(Path("./none/here")) == Path("none/here")
