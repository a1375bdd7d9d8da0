"""The networks that are compared: what they are, and what they cost."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.network.contenders import (
    FAMILIES,
    LABELS,
    SPARSITIES,
    Family,
    SparseClassifier,
    contenders,
    macs_of,
)
from bundle.geometry import downscale
from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.config import ModelConfig
from model.macs import cost
from networks.config import get_network_config


@pytest.fixture(scope="module")
def family(tiny_config: ModelConfig) -> Family:
    return Family(
        lookwhen=dataclasses.replace(tiny_config, extractor_depth=4),
        internvideo2=dataclasses.replace(
            get_network_config("internvideo2_b14"), frames=2, size=28, width=32, depth=1, heads=2,
            mlp_width=128, pooler_heads=2, video_width=32, labels=LABELS,
        ),
        videomae={
            "image_size": 32, "num_frames": 4, "hidden_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 64,
        },
    )  # fmt: skip


def frames(view: tuple[int, int, int]) -> torch.Tensor:
    time, height, width = view
    noise = np.random.default_rng(0).integers(0, 256, (1, time, height, width, 3), np.uint8)
    return torch.from_numpy(noise)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(contenders(FAMILIES["b16"])))
def test_every_contender_takes_frames_to_logits(family: Family, name: str) -> None:
    torch.manual_seed(0)
    contender = contenders(family)[name]
    view = (4, 32, 32) if name == "VideoMAE" else contender.view
    module = contender.build().eval()
    with torch.inference_mode():
        logits = module(frames(view))
        other = module(255 - frames(view))
    assert logits.shape == (1, 400 if name in ("VideoMAE", "InternVideo2") else 3)
    assert torch.isfinite(logits).all()
    assert not torch.equal(logits, other)  # it has looked at the pixels
    assert macs_of(contender, family, module, frames(view)) > 0


def test_the_sparse_one_is_the_model_at_its_sparsity(tiny_model: LookWhen) -> None:
    config = tiny_model.config
    clip = frames((config.frames, config.size, config.size))
    kept = tokens_to_keep(0.7, config.tokens)
    with torch.inference_mode():
        expected = tiny_model(clip, torch.from_numpy(downscale(clip.numpy())), kept).logits
        assert torch.equal(SparseClassifier(tiny_model, 0.7)(clip), expected)


@pytest.mark.slow
def test_costs_are_those_of_the_papers_network() -> None:
    """They follow from shapes alone: no weights are made."""
    family = FAMILIES["b16"]
    found = contenders(family)
    price = cost(family.lookwhen)
    for sparsity in SPARSITIES:
        contender = found[f"lookwhen {sparsity:g}"]
        kept = tokens_to_keep(sparsity, family.lookwhen.tokens)
        with torch.device("meta"):
            module = torch.nn.Identity()
        assert macs_of(contender, family, module, frames((2, 4, 4))) == price.at(kept)
    with torch.device("meta"):
        module = found["InternVideo2"].build()
    macs = macs_of(found["InternVideo2"], family, module, frames(found["InternVideo2"].view))
    # 2049 tokens in 12 layers of width 768: 12 D^2 a token, 2 D a pair; patches and pooler on top.
    blocks = 12 * (2049 * 12 * 768**2 + 2049**2 * 2 * 768)
    assert blocks < macs < 1.05 * blocks
