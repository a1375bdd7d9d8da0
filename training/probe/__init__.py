"""Linear probe, ``lookwhen train probe``: how much a frozen network's features tell.

Every clip goes through the network once, at each sparsity; the features stay in the output folder,
and a run that was stopped goes on with the clips that are missing. On the standardised features a
linear classifier is trained, at the learning rate and weight decay that are best on a part of the
training clips held out; test clips are looked at once, at the end.
"""

from training.probe.classifier import Probe, ProbeSettings, Trial, choose, fit
from training.probe.features import ClipFeatures, extract
from training.probe.run import ProbePoint, probe

__all__ = [
    "ClipFeatures",
    "Probe",
    "ProbePoint",
    "ProbeSettings",
    "Trial",
    "choose",
    "extract",
    "fit",
    "probe",
]
