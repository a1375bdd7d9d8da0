"""Evaluation: one pass over the clips of a data set, any method at any number of settings.

A :class:`Method` answers views and says what that cost; :func:`measure` takes it over the clips;
:func:`summarise` turns what came out into figures with intervals; a report, a plot and a file of
predictions are made from these.
"""

from training.evaluation.baselines import BaselineMethod, parse_baseline
from training.evaluation.measure import Measurement, Outcome, measure
from training.evaluation.methods import SELECTED_BY, Answer, LookWhenMethod, Method, Setting
from training.evaluation.points import Point, Result, result_of, summarise
from training.evaluation.statistics import (
    Estimate,
    MeanAP,
    Resampling,
    Share,
    paired_share_interval,
    wilson_interval,
)

__all__ = [
    "SELECTED_BY",
    "Answer",
    "BaselineMethod",
    "Estimate",
    "LookWhenMethod",
    "MeanAP",
    "Measurement",
    "Method",
    "Outcome",
    "Point",
    "Resampling",
    "Result",
    "Setting",
    "Share",
    "measure",
    "paired_share_interval",
    "parse_baseline",
    "result_of",
    "summarise",
    "wilson_interval",
]
