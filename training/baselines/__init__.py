"""Other ways to make a video ViT cheaper, on one dense backbone, for the comparison.

Written from the papers' descriptions. All take whole frames, and answer logits with the tokens
that each layer saw, from which ``Baseline.macs`` counts what a clip cost.
"""

from training.baselines.config import DENSE_CONFIGS, DenseConfig, Pooling, get_dense_config
from training.baselines.dense import Baseline, BaselinePrediction, Dense, DenseViT
from training.baselines.dropping import RandomDropping
from training.baselines.fewer_frames import FewerFrames
from training.baselines.lite import Lite
from training.baselines.rlt import RLT
from training.baselines.tome import ToMe
from training.baselines.vid_tldr import VidTLDR

__all__ = [
    "DENSE_CONFIGS",
    "RLT",
    "Baseline",
    "BaselinePrediction",
    "Dense",
    "DenseConfig",
    "DenseViT",
    "FewerFrames",
    "Lite",
    "Pooling",
    "RandomDropping",
    "ToMe",
    "VidTLDR",
    "get_dense_config",
]
