"""Published checkpoints: which format and network one is, and its tensors as ours.

One file for each format; :func:`recognise` finds the one that fits.
"""

from networks.checkpoints.lookwhen import is_lookwhen, list_lookwhen
from networks.checkpoints.published import KeyRow, PublishedFormat, Recognised
from networks.checkpoints.recognition import FORMATS, recognise

__all__ = [
    "FORMATS",
    "KeyRow",
    "PublishedFormat",
    "Recognised",
    "is_lookwhen",
    "list_lookwhen",
    "recognise",
]
