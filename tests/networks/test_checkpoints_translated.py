"""Files in the published formats, random and small: what they answer is what their network says.

With transformers where it has the network, else with ``plain_networks``, which shares no code.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_networks import plain_fluxvit, plain_internvideo2, plain_videomae, plain_vjepa21
from safetensors.torch import load_file
from small_views import frames, look, some_tokens
from torch import Tensor

from benchmarks.published_keys import (
    distilled,
    filled,
    fluxvit,
    internvideo2,
    mmaction2,
    videomae,
    vjepa2_classifiers,
    vjepa2_original,
)
from model.checkpoint import CheckpointError
from networks.checkpoint import network_of
from networks.checkpoints import Recognised, recognise
from networks.network import VideoNetwork

pytestmark = pytest.mark.slow

LABELS = {str(i): name for i, name in enumerate(("running", "jumping", "sitting"))}
Said = tuple[Tensor, Tensor]


def imported(
    weights: dict[str, Tensor], settings: dict[str, Any], **sizes: int
) -> tuple[Recognised, VideoNetwork]:
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    found = recognise(shapes, settings, **sizes)
    assert found.problems == ()
    return found, network_of(found.config, found.translate(weights))


def agree(
    network: VideoNetwork, plain: Callable[[Tensor, list[int]], Said], counts: tuple[int, ...]
) -> None:
    """Logits and video token of whole clips, and of parts of them."""
    config = network.config
    view = frames(config)
    for kept in (config.tokens, *counts):
        positions = some_tokens(config, kept)
        said = look(network, view, positions)
        for row in range(len(view)):
            logits, video = plain(view[row], positions[row].tolist())
            torch.testing.assert_close(said.logits[row], logits, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(said.video[row], video, atol=1e-4, rtol=1e-4)


SMALL: dict[str, Any] = {"heads": 3, "image_size": 32, "id2label": LABELS}


@pytest.mark.parametrize("tubelet", [1, 2])
def test_videomae_and_umt(tubelet: int) -> None:
    weights = filled(videomae(24, 2, tubelet, 3))
    if tubelet == 1:
        # The table of any other grid than the published is saved with the weights.
        weights |= filled({"pos_embed": (1, 12, 24)}, 1)
    _, network = imported(weights, SMALL, frames=3 * tubelet)
    agree(
        network,
        lambda clip, ids: plain_videomae(weights, clip, ids, heads=3, patch=16, tubelet=tubelet),
        (5, 1),
    )


def test_videomae_in_other_wrappings_is_the_same() -> None:
    weights = filled(videomae(24, 2, 2, 3))
    _, network = imported(weights, SMALL, frames=4)
    expected = network.state_dict()
    spelled = mmaction2({key: tuple(tensor.shape) for key, tensor in weights.items()}, 8)
    renamed = dict(zip(spelled, weights.values(), strict=False))
    renamed["backbone.pos_embed"] = expected["positions"][None]
    for others in (
        {f"model.{key}": tensor for key, tensor in weights.items()},
        {f"module.encoder.{key}": tensor for key, tensor in weights.items()},
        renamed,
    ):
        _, again = imported(others, SMALL, frames=4)
        assert all(torch.equal(again.state_dict()[key], t) for key, t in expected.items())


def test_umts_table_is_resized_where_none_is_saved() -> None:
    weights = filled(videomae(24, 1, 1, 3))
    _, eight = imported(weights, {**SMALL, "image_size": 224})
    _, sixteen = imported(weights, {**SMALL, "image_size": 224}, frames=16)
    short, long = (n.state_dict()["positions"].reshape(-1, 196, 24) for n in (eight, sixteen))
    assert (len(short), len(long)) == (8, 16)
    # Half a step before and after the middle between two of the eight.
    torch.testing.assert_close(long[1], 0.75 * short[0] + 0.25 * short[1])
    torch.testing.assert_close(long[2], 0.25 * short[0] + 0.75 * short[1])


def test_a_head_of_710_rows_gives_its_first_400() -> None:
    weights = filled(videomae(24, 1, 2, 710))
    settings = {**SMALL, "id2label": {str(i): f"merged {i}" for i in range(710)}}
    found, network = imported(weights, settings, frames=4)
    assert found.config.labels[:2] == ("abseiling", "air drumming")
    assert torch.equal(network.state_dict()["head.weight"], weights["head.weight"][:400])


# Patches of 14 in pictures of 28: a class token and 2 x 2 places a frame.
POOLED: dict[str, Any] = {"heads": 3, "pooler_heads": 4, "image_size": 28, "id2label": LABELS}


def test_internvideo2() -> None:
    weights = filled(internvideo2(24, 2, 40, places=12, classes=3, out=20))
    _, network = imported(weights, POOLED)
    assert network.config.frames == 3
    agree(
        network,
        lambda clip, ids: plain_internvideo2(weights, clip, ids, heads=3, pooler_heads=4, patch=14),
        (5, 1),
    )


def test_internvideo2_in_half_precision() -> None:
    weights = filled(internvideo2(24, 2, 40, places=12, classes=3, out=20))
    halves = {f"model.module.{key}": tensor.half() for key, tensor in weights.items()}
    found, network = imported(halves, POOLED)
    rounded = {key: tensor.half().float() for key, tensor in weights.items()}
    assert {tensor.dtype for tensor in found.translate(halves).values()} == {torch.float32}
    agree(
        network,
        lambda clip, ids: plain_internvideo2(rounded, clip, ids, heads=3, pooler_heads=4, patch=14),
        (),
    )


def test_internvideo2_without_a_classifier_pools() -> None:
    shapes = internvideo2(24, 2, 40, places=12, classes=3, out=20)
    full = filled(shapes)
    full |= {"fc_norm.weight": torch.ones(20), "fc_norm.bias": torch.zeros(20)}
    weights = filled(distilled(shapes)) | {k: full[k] for k in distilled(shapes) if k in full}
    _, network = imported(weights, POOLED)
    _, whole = imported(full, POOLED)
    view, positions = frames(network.config), some_tokens(network.config, 7)
    said, expected = look(network, view, positions), look(whole, view, positions)
    assert network.config.labels == ()
    torch.testing.assert_close(said.video, expected.video)
    assert torch.equal(said.logits, said.video)


def test_internvideo2s_table_is_brought_to_other_frames() -> None:
    weights = filled(internvideo2(24, 1, 40, places=12, classes=3, out=20))
    _, network = imported(weights, POOLED, frames=6)
    table = network.state_dict()["positions"]
    given = weights["pos_embed"][0]
    assert table.shape == (25, 24)
    assert torch.equal(table[0], given[0])
    torch.testing.assert_close(table[5:9], 0.75 * given[1:5] + 0.25 * given[5:9])


@pytest.mark.parametrize("length", [4, 3])
def test_fluxvit(length: int) -> None:
    weights = filled(fluxvit(24, 2, (3, 3, 3), 3, 20))
    settings = {**POOLED, "table_grid": [3, 3, 3], "budgets": [2, 6, 14]}
    _, network = imported(weights, settings, frames=length, size=28)
    agree(
        network,
        lambda clip, ids: plain_fluxvit(
            weights, clip, ids, heads=3, pooler_heads=4, patch=14, table=(3, 3, 3),
            budgets=(2, 6, 14),
        ),
        (1, 3, 5, 9),
    )  # fmt: skip


def saved(model: Any, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    import json

    model.save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    return load_file(folder / "model.safetensors"), settings


def channels_first(network: VideoNetwork, view: Tensor) -> Tensor:
    mean, std = (torch.tensor(part) * 255 for part in (network.config.mean, network.config.std))
    return ((view - mean) / std).permute(0, 1, 4, 2, 3)


@pytest.fixture
def transformers() -> Any:
    torch.manual_seed(0)
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("spelling", ["as saved", "query.bias", "q_bias"])
@torch.no_grad()
def test_videomae_of_transformers(transformers: Any, tmp_path: Path, spelling: str) -> None:
    config = transformers.VideoMAEConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        image_size=32, num_frames=6, id2label=LABELS, initializer_range=0.3,
    )  # fmt: skip
    model = transformers.VideoMAEForVideoClassification(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    weights, settings = saved(model, tmp_path)
    pairs = (("query.bias", "q_bias"), ("value.bias", "v_bias"))
    for one, other in pairs:
        old, new = (other, one) if spelling == "query.bias" else (one, other)
        if spelling != "as saved":
            weights = {
                key.replace(f"attention.attention.{old}", f"attention.attention.{new}"): tensor
                for key, tensor in weights.items()
            }
    _, network = imported(weights, settings)
    assert network.config.labels == tuple(LABELS.values())
    view = frames(network.config)
    pixels = channels_first(network, view)
    everything = torch.arange(12).expand(2, -1)
    said = look(network, view, everything)
    torch.testing.assert_close(said.logits, model(pixels).logits, atol=1e-4, rtol=1e-4)
    positions = some_tokens(network.config, 5)
    hidden = torch.ones(2, 12, dtype=torch.bool).scatter(1, positions, False)
    states = model.videomae(pixels, bool_masked_pos=hidden).last_hidden_state
    expected = model.classifier(model.fc_norm(states.mean(1)))
    said = look(network, view, positions)
    torch.testing.assert_close(said.logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("head_width", [8, 14])
@torch.no_grad()
def test_vjepa2_of_transformers(transformers: Any, tmp_path: Path, head_width: int) -> None:
    config = transformers.VJEPA2Config(
        hidden_size=3 * head_width, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2,
        crop_size=48, frames_per_clip=6, pred_hidden_size=24, pred_num_attention_heads=2,
        pred_num_hidden_layers=1, num_pooler_layers=2, id2label=LABELS, initializer_range=0.3,
    )  # fmt: skip
    model = transformers.VJEPA2ForVideoClassification(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    weights, settings = saved(model, tmp_path)
    found, network = imported(weights, settings)
    assert any("predictor" in row.key and row.becomes is None for row in found.rows)
    assert (network.config.size, network.config.frames) == (48, 6)
    view = frames(network.config)
    pixels = channels_first(network, view)
    everything = torch.arange(27).expand(2, -1)
    expected = model(pixels).logits
    said = look(network, view, everything)
    torch.testing.assert_close(said.logits, expected, atol=1e-4, rtol=1e-4)

    positions = some_tokens(network.config, 7)
    encoder = model.vjepa2.encoder
    states = encoder.embeddings(pixels)[torch.arange(2)[:, None], positions]
    for layer in encoder.layer:
        out = layer(states, position_mask=positions)
        states = out[0] if isinstance(out, tuple) else out
    expected = model.classifier(model.pooler(encoder.layernorm(states)))
    said = look(network, view, positions)
    torch.testing.assert_close(said.logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_vjepa2_in_its_authors_keys(transformers: Any, tmp_path: Path) -> None:
    config = transformers.VJEPA2Config(
        hidden_size=96, num_hidden_layers=2, num_attention_heads=16, mlp_ratio=4, crop_size=48,
        frames_per_clip=6, pred_hidden_size=24, pred_num_attention_heads=2,
        pred_num_hidden_layers=1, num_pooler_layers=2, id2label=LABELS, initializer_range=0.2,
    )  # fmt: skip
    model = transformers.VJEPA2ForVideoClassification(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    theirs, _ = saved(model, tmp_path)
    shapes = vjepa2_original(96, 2, 384) | vjepa2_classifiers(96, 3, 2)
    weights = filled(shapes, 1)  # the encoder that was trained is another one than its average
    weights |= authors_names(theirs)
    settings = {"heads": 16, "id2label": LABELS}
    _, network = imported(weights, settings, frames=6, size=48)
    view = frames(network.config)
    expected = model(channels_first(network, view)).logits
    said = look(network, view, torch.arange(27).expand(2, -1))
    torch.testing.assert_close(said.logits, expected, atol=2e-4, rtol=2e-4)


def authors_names(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """A classifier of transformers under the keys of the authors' two files."""
    places = (
        (r"vjepa2\.encoder\.embeddings\.patch_embeddings\.", "E.patch_embed."),
        (r"vjepa2\.encoder\.layernorm\.", "E.norm."),
        (r"vjepa2\.encoder\.layer\.", "E.blocks."),
        (r"pooler\.self_attention_layers\.", "C.pooler.blocks."),
        (r"pooler\.cross_attention_layer\.", "C.pooler.cross_attention_block."),
        (r"pooler\.query_tokens", "C.pooler.query_tokens"),
        (r"classifier\.", "C.linear."),
        (r"layer_norm", "norm"), (r"(attention|self_attn)\.", "attn."), (r"cross_attn\.", "xattn."),
        (r"out_proj\.", "proj."), (r"(query|q_proj)\.", "q."), (r"(key|k_proj)\.", "k."),
        (r"(value|v_proj)\.", "v."),
    )  # fmt: skip
    named: dict[str, Tensor] = {}
    for key, tensor in theirs.items():
        if "predictor" in key:
            continue
        for pattern, place in places:
            key = re.sub(pattern, place, key)
        key = re.sub(r"^E\.", "target_encoder.module.backbone.", key)
        named[re.sub(r"^C\.", "classifiers.0.module.", key)] = tensor
    made: dict[str, Tensor] = {}
    for key, tensor in named.items():
        found = re.match(r"(.*attn\.)([qkv])\.(\w+)$", key)
        if found is None:
            made[key] = tensor
            continue
        stem, letter, part = found.groups()
        joined = "kv" if "xattn" in stem else "qkv"
        if letter not in joined:
            made[key] = tensor
        elif letter == joined[0]:
            made[f"{stem}{joined}.{part}"] = torch.cat([named[f"{stem}{c}.{part}"] for c in joined])
    return made


def test_vjepa21_in_its_authors_keys() -> None:
    weights = filled(vjepa2_original(24, 2, 48, "2.1"))
    found, network = imported(weights, {"heads": 3}, frames=6, size=48)
    assert "embedding.video" in [row.becomes for row in found.rows]
    own = "ema_encoder.module.backbone."
    plain = {k.removeprefix(own): tensor for k, tensor in weights.items() if k.startswith(own)}
    agree(
        network,
        lambda clip, ids: plain_vjepa21(plain, clip, ids, heads=3, patch=16, blocks=2),
        (7, 1),
    )


@torch.no_grad()
def test_vjepa2s_backbone_gives_the_mean_of_its_tokens(transformers: Any, tmp_path: Path) -> None:
    config = transformers.VJEPA2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2, crop_size=32,
        frames_per_clip=4, pred_hidden_size=24, pred_num_attention_heads=2,
        pred_num_hidden_layers=1, initializer_range=0.3,
    )  # fmt: skip
    model = transformers.VJEPA2Model(config).eval()
    weights, settings = saved(model, tmp_path)
    _, network = imported(weights, settings)
    view = frames(network.config)
    states = model(channels_first(network, view), skip_predictor=True).last_hidden_state
    said = look(network, view, torch.arange(8).expand(2, -1))
    torch.testing.assert_close(said.logits, states.mean(1), atol=1e-4, rtol=1e-4)


def test_tensors_that_are_no_weights_are_refused() -> None:
    weights = filled(videomae(24, 1, 2, 3))
    found, _ = imported(weights, SMALL, frames=4)
    with pytest.raises(CheckpointError, match=r"head\.bias holds torch\.int64, not floats"):
        found.translate(weights | {"head.bias": torch.zeros(3, dtype=torch.int64)})
    with pytest.raises(CheckpointError, match=r"head\.bias holds infinities or NaN"):
        found.translate(weights | {"head.bias": torch.tensor([0.0, torch.nan, 0.0])})
