"""One's own clips to a model, ``lookwhen train own``: everything in one command.

It looks at the clips and says what it finds, chooses how they are framed, scales them once,
measures a linear probe on the frozen network, fine-tunes where there is time and it gains
something, and calibrates. Each part goes on where it was stopped. The command itself is in
``lookwhen/own.py``, for it exports too.
"""

from training.own.clips import OwnClips, read_own
from training.own.mirroring import with_mirror
from training.own.probing import SPARSITIES
from training.own.run import OwnResult, OwnSettings, train_own

__all__ = [
    "SPARSITIES",
    "OwnClips",
    "OwnResult",
    "OwnSettings",
    "read_own",
    "train_own",
    "with_mirror",
]
