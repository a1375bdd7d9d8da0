"""What a command does before it imports anything else."""

import os
import sys

from startup import packages, path

# The modules that were commands of their own, and what took their place.
SUCCESSORS = {
    "export": "lookwhen export",
    "export.unpack": "lookwhen bundle unpack",
    "model": "lookwhen model cost",
    "service": "lookwhen",
    "training.baselines": "lookwhen train baselines",
    "training.datasets": "lookwhen train data check",
    "training.evaluate": "lookwhen train evaluate",
    "training.evaluation": "lookwhen train pool or plot",
    "training.finetune": "lookwhen train finetune",
    "training.moving_things": "lookwhen train render or sheet",
    "training.moving_things.sample": "lookwhen sample",
    "training.pretrain": "lookwhen train pretrain",
    "training.probe": "lookwhen train probe",
    "training.supervised": "lookwhen train builtin",
    "training.teachers": "lookwhen train teachers",
}

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
        # Behind the module's name stand the same arguments as behind "-m" in sys.argv.
        name_successor(sys.orig_argv[-len(sys.argv)])


def name_successor(module: str) -> None:
    """Say on standard error, in one line, which command replaces ``python -m`` of a module.

    Of the processes that torchrun starts on a machine, the first one says it.
    """
    successor = SUCCESSORS.get(module)
    if successor is not None and os.environ.get("LOCAL_RANK", "0") == "0":
        print(
            f"`python -m {module}` will be gone in the next release: use `{successor}`",
            file=sys.stderr,
        )
