"""The bundles that come with the package, and the names that they have in place of a path."""

from pathlib import Path

from bundle.errors import BundleError

_FOLDERS = {"moving_things": "default"}
NAMES = tuple(_FOLDERS)


def default_bundle_path() -> Path:
    """The built-in bundle that is served where none is named: ``moving_things``."""
    return _path("moving_things")


def find_bundle(named: Path | None) -> Path:
    """The folder that is meant: a path, or a built-in bundle's name where no such path is there.

    Args:
        named: as somebody typed it; None is the built-in one.

    Raises:
        BundleError: a single word that is neither.
    """
    if named is None:
        return default_bundle_path()
    if named.exists() or len(named.parts) != 1 or named.is_absolute():
        return named
    if named.name in _FOLDERS:
        return _path(named.name)
    raise BundleError(
        None, f"there is no directory {named}, and the built-in bundles are {', '.join(NAMES)}"
    )


def _path(name: str) -> Path:
    return Path(__file__).parent / _FOLDERS[name]
