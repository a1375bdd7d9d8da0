"""Where this process and those that it starts look for code: never in the working directory.

Python puts the working directory first on its path (``python -m``, ``python -c``), or the folder of
the script that it was given. A ``json.py`` or a ``service`` that lies there would run in the place
of the one that is meant, with all that the process may do. ``python -P`` and the variable
``PYTHONSAFEPATH`` leave both out; an empty or relative entry of ``PYTHONPATH`` brings the working
directory back in, and is dropped.

Every child that runs Python is started by what is here; a test looks for others.
"""

# pathlib would be looked for on the path that is to be closed.
# ruff: noqa: PTH117, PTH120

import os
import site
import sys

# mypy and editors know these names; at run time they would be imports from an open path.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.context import SpawnContext

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
"""The folder that holds the project's packages: a checkout, ``site-packages``, or another one."""


def python_command(*arguments: str) -> list[str]:
    """A command line for this interpreter with nothing unsafe on its path.

    It goes with :func:`child_environment`.
    """
    user_site = ["-s"] if sys.flags.no_user_site else []
    return [sys.executable, "-P", *user_site, *arguments]


def child_environment(variables: "Mapping[str, str] | None" = None) -> dict[str, str]:
    """Variables for a child that runs Python.

    Args:
        variables: what else it is to have; this process's own where there are none.

    Returns:
        Them, with the absolute entries of this process's ``PYTHONPATH``, before which the project's
        own folder stands where the child would not find it otherwise.
    """
    found = dict(os.environ if variables is None else variables)
    found.pop("PYTHONPATH", None)
    if entries := _child_path():
        found["PYTHONPATH"] = os.pathsep.join(entries)
    found["PYTHONSAFEPATH"] = "1"
    return found


def spawn_context() -> "SpawnContext":
    """multiprocessing's way of starting children, for pools and loaders.

    It takes the variables from this process, and has further helpers of its own to start, so this
    process's are set, for good. A child then takes over ``sys.path`` as it is here.
    """
    import multiprocessing

    _set_variables()
    return multiprocessing.get_context("spawn")


def close() -> None:
    """Take the working directory and the script's folder off this process's own path.

    For commands, first of all: what was imported before has been looked for there. The children of
    libraries are covered, too. Where only the working directory led to the project, the project's
    own folder takes its place.
    """
    if not sys.flags.safe_path and sys.path and sys.path[0] in _script_folders():
        del sys.path[0]
    kept = {*_absolute_entries(), *_standard_folders()}
    unsafe = {
        _resolved(os.path.abspath, entry) for entry in _entries() if not os.path.isabs(entry)
    } - kept
    sys.path[:] = [entry for entry in sys.path if entry and entry not in unsafe]
    if not _holds_root(sys.path):
        sys.path.insert(0, ROOT)
    _set_variables()


def _set_variables() -> None:
    safe = child_environment()
    if "PYTHONPATH" not in safe:
        os.environ.pop("PYTHONPATH", None)
    os.environ.update(safe)


def _script_folders() -> tuple[str, ...]:
    """What Python may have put first: the working directory, or the folder of the script."""
    script = _resolved(os.path.realpath, sys.argv[0] if sys.argv else "")
    return "", _resolved(os.path.abspath, ""), os.path.dirname(script)


def _resolved(resolve: "Callable[[str], str]", entry: str) -> str:
    try:
        return resolve(entry)
    except OSError:  # the working directory is gone
        return entry


def _child_path() -> list[str]:
    entries = _absolute_entries()
    if _holds_root(entries) or _holds_root(_standard_folders()):
        return entries
    return [ROOT, *entries]


def _entries() -> list[str]:
    variable = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    return variable.split(os.pathsep) if variable else []


def _absolute_entries() -> list[str]:
    return [entry for entry in _entries() if os.path.isabs(entry)]


def _standard_folders() -> list[str]:
    """Where Python finds its own library and what is installed, without being told."""
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [os.path.dirname(os.__file__), *site.getsitepackages(), *user]


def _holds_root(entries: list[str]) -> bool:
    return any(os.path.isabs(entry) and os.path.realpath(entry) == ROOT for entry in entries)
