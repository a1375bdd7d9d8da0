"""What a command does before it imports anything else."""

import sys

from startup import packages, path

_begun = False


def begin(program: str, *extras: str) -> None:
    """Close the path, and have a missing package explained.

    Args:
        program: the command's name.
        extras: what it needs in any case besides the base.
    """
    path.close()
    packages.explain_missing(program, *extras)


def begin_module(package: str, *extras: str) -> None:
    """:func:`begin`, if ``python -m`` is about to run a module of the package.

    Called by the package itself, because a module's own imports come before its first line. While
    Python looks for the module, ``sys.argv[0]`` is ``-m``; at any other import nothing happens, and
    nothing more where one package imports another.
    """
    global _begun
    if sys.argv[:1] == ["-m"] and not _begun:
        _begun = True
        begin(package, *extras)
