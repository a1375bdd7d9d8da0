"""Published keys and shapes, at full size and without values: which network each file is."""

import pytest

from benchmarks.published_keys import (
    Shapes,
    distilled,
    fluxvit,
    internvideo2,
    mmaction2,
    videomae,
    videomae_transformers,
    vjepa2,
    vjepa2_classifiers,
    vjepa2_original,
)
from model.checkpoint import CheckpointError
from networks.checkpoints import recognise
from networks.config import get_network_config
from networks.labels import class_list


def numbered(rows: int) -> tuple[str, ...]:
    return tuple(f"class {row}" for row in range(rows))


K400, SSV2 = class_list("kinetics-400"), class_list("something-something-v2")

# Every released file whose keys are known: its keys, the network that it is, and its labels.
FILES: dict[str, tuple[Shapes, str, tuple[str, ...]]] = {
    "VideoMAE-S": (videomae(384), "videomae_s16", K400),
    "VideoMAE-B": (videomae(), "videomae_b16", K400),
    "VideoMAE-L": (videomae(1024, 24), "videomae_l16", K400),
    "VideoMAE-H": (videomae(1280, 32), "videomae_h16", K400),
    "VideoMAE-B SSv2": (videomae(classes=174), "videomae_b16", SSV2),
    "VideoMAEv2-B K710": (videomae(classes=710), "videomaev2_b16", K400),
    "VideoMAEv2-S K710": (videomae(384, classes=710), "videomaev2_s16", K400),
    "VideoMAEv2-B mmaction2": (mmaction2(videomae()), "videomae_b16", K400),
    "VideoMAE-B hub": (videomae_transformers(), "videomae_b16", K400),
    "VideoMAE-H hub": (videomae_transformers(1280, 32), "videomae_h16", K400),
    "UMT-B": (videomae(tubelet=1), "umt_b16", K400),
    "UMT-L": (videomae(1024, 24, tubelet=1), "umt_l16", K400),
    "UMT-B K710": (videomae(tubelet=1, classes=710), "umt_b16", K400),
    "UMT-B K600": (videomae(tubelet=1, classes=600), "umt_b16", class_list("kinetics-600")),
    "UMT-B SSv2": (videomae(tubelet=1, classes=174), "umt_b16", SSV2),
    "InternVideo2-S": (internvideo2(384, mlp=1536), "internvideo2_s14", K400),
    "InternVideo2-B": (internvideo2(), "internvideo2_b14", K400),
    "InternVideo2-L": (internvideo2(1024, 24, 4096), "internvideo2_l14", K400),
    "InternVideo2-1B": (internvideo2(1408, 40, 6144), "internvideo2_1b14", K400),
    "InternVideo2-B SSv2": (internvideo2(classes=174), "internvideo2_b14", SSV2),
    "InternVideo2-B distilled": (distilled(internvideo2()), "internvideo2_b14", ()),
    "V-JEPA 2 L": (vjepa2(), "vjepa2_l16", SSV2),
    "V-JEPA 2 g": (vjepa2(1408, 40, 6144), "vjepa2_g16", SSV2),
    "V-JEPA 2 L, authors'": (vjepa2_original() | vjepa2_classifiers(), "vjepa2_l16", SSV2),
    "V-JEPA 2 L, authors', a sweep": (
        vjepa2_original() | vjepa2_classifiers(classes=48, sweep=3),
        "vjepa2_l16",
        numbered(48),
    ),
    "FluxViT-S": (fluxvit(384, table=(24, 18, 18)), "fluxvit_s14", K400),
    "FluxViT-B": (fluxvit(), "fluxvit_b14", K400),
}


SHAPE = """frames size patch tubelet width depth heads mlp_width video_width pooler_heads
    pooler_depth pooler_mlp_width budgets"""


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("wrapper", ["", "model.", "module."])
def test_every_published_file_is_recognised(name: str, wrapper: str) -> None:
    shapes, network, labels = FILES[name]
    wrapped = {wrapper + key: shape for key, shape in shapes.items()}
    found = recognise(wrapped)
    expected = get_network_config(network)
    assert found.problems == ()
    assert found.config.name == network
    assert found.config.labels == labels
    for field in SHAPE.split():
        assert getattr(found.config, field) == getattr(expected, field), field
    assert [row.key for row in found.rows] == list(wrapped)
    assert all(row.becomes is not None or row.note != "unknown" for row in found.rows)


BACKBONES = {
    "vitl": (vjepa2_original(), "vjepa2_l16"),
    "vith": (vjepa2_original(1280, 32, 5120), "vjepa2_h16"),
    "vitg-384": (vjepa2_original(1408, 40, 6144), "vjepa2_g16"),
    "vjepa2_1_vitb": (vjepa2_original(768, 12, 3072, "2.1"), "vjepa21_b16"),
    "vjepa2_1_vitl": (vjepa2_original(1024, 24, 4096, "2.1"), "vjepa21_l16"),
    "vjepa2_1_vitg": (vjepa2_original(1408, 40, 6144, "2.1", "target_encoder"), "vjepa21_g16"),
    "vjepa2_1_vitG": (vjepa2_original(1664, 48, 8192, "2.1", "target_encoder"), "vjepa21_2b16"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_the_authors_own_backbones_are_recognised(name: str) -> None:
    shapes, network = BACKBONES[name]
    found = recognise(shapes)
    assert found.problems == ()
    expected = get_network_config(network)
    assert found.config.name == network
    assert found.config.labels == ()
    for field in ("frames", "size", "short_side", "heads", "mlp_width", "tokens", "paired_rates"):
        assert getattr(found.config, field) == getattr(expected, field), field
    rows = {row.key: row for row in found.rows}
    assert rows["encoder.module.backbone.blocks.0.norm1.bias"].note.startswith("the encoder that")
    assert rows["predictor.module.backbone.predictor_embed.weight"].becomes is None


@pytest.mark.slow
def test_the_authors_files_come_apart() -> None:
    alone = {k.removeprefix("target_"): s for k, s in vjepa2_original().items()
             if not k.startswith("encoder.")}  # fmt: skip
    assert recognise(alone).problems == ()
    bare = {k.removeprefix("encoder.module.backbone."): s for k, s in alone.items()}
    assert recognise(bare).config.name == "vjepa2_l16"
    with pytest.raises(CheckpointError, match="classifiers alone: import the file of its encoder"):
        recognise(vjepa2_classifiers())
    large = recognise(
        vjepa2_original(1408, 40, 6144) | vjepa2_classifiers(1408), frames=32, size=256
    ).config
    assert (large.heads, large.pooler_heads, large.pooler_eps) == (22, 16, 1e-5)
    assert (large.frames, large.size, large.short_side) == (32, 256, 292)
    missing = vjepa2_original() | vjepa2_classifiers()
    del missing["classifiers.0.module.pooler.cross_attention_block.xattn.kv.bias"]
    assert recognise(missing).problems == (
        "the tensor pooler.cross_attention_block.xattn.kv.bias is missing",
    )
    surplus = vjepa2_original() | {"target_encoder.module.backbone.blocks.0.ls1.gamma": (1024,)}
    (problem,) = recognise(surplus).problems
    assert problem == (
        "the tensor target_encoder.module.backbone.blocks.0.ls1.gamma is unknown: it is no part of "
        "V-JEPA 2 in its authors' keys"
    )


def test_what_becomes_of_each_key_is_told() -> None:
    rows = {row.key: row for row in recognise(videomae(classes=710)).rows}
    assert rows["patch_embed.proj.weight"].becomes == "embedding.projection.weight"
    assert rows["blocks.0.attn.q_bias"].becomes == "blocks.0.attn.qkv.bias"
    assert rows["blocks.0.attn.q_bias"].note == "the part of queries"
    assert rows["head.weight"].note == "its first 400 rows of 710"
    rows = {row.key: row for row in recognise(vjepa2()).rows}
    dropped = rows["vjepa2.predictor.proj.weight"]
    assert (dropped.becomes, dropped.note) == (None, "the predictor of the pre-training")


def test_sixteen_frames_are_told_by_the_table_of_places() -> None:
    found = recognise(internvideo2(1408, 40, 6144, places=4096))
    assert found.problems == ()
    assert (found.config.frames, found.config.size) == (16, 224)
    assert recognise(mmaction2(videomae(tubelet=1), places=3136)).config.frames == 16


@pytest.mark.slow
def test_views_are_those_of_the_data_set() -> None:
    kinetics, something = (recognise(videomae(classes=n)).config for n in (400, 174))
    assert (kinetics.sampling, kinetics.stride, kinetics.views) == ("dense", 4, (5, 3))
    assert (something.sampling, something.stride, something.views) == ("uniform", None, (2, 3))
    assert recognise(internvideo2(classes=174)).config.views == (2, 3)
    assert recognise(vjepa2()).config.short_side == 292
    large = recognise(vjepa2(), {"crop_size": 384, "frames_per_clip": 64}).config
    assert (large.size, large.short_side, large.frames) == (384, 438, 64)


def test_the_files_beside_it_are_heeded() -> None:
    names = {str(i): f"class of mine {i}" for i in range(400)}
    settings = {
        "hidden_size": 768, "num_attention_heads": 8, "num_frames": 32, "image_size": 320,
        "layer_norm_eps": 1e-6, "id2label": names,
    }  # fmt: skip
    preprocessor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.1, 0.2, 0.3],
                    "size": {"shortest_edge": 340}}  # fmt: skip
    config = recognise(videomae_transformers(), settings, preprocessor).config
    assert (config.heads, config.frames, config.size) == (8, 32, 320)
    assert (config.norm_eps, config.short_side) == (1e-6, 340)
    assert (config.mean, config.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    assert config.labels == tuple(names.values())
    numbered = {str(i): f"LABEL_{i}" for i in range(400)}
    assert recognise(videomae(), {"id2label": numbered}).config.labels == K400
    assert recognise(videomae(classes=5)).config.labels[4] == "class 4"


HUB = videomae_transformers()


@pytest.mark.parametrize(
    ("shapes", "settings", "text"),
    [
        ({}, {}, "no format that is known here"),
        ({"conv1.weight": (64, 3, 7, 7)}, {}, r"the first are conv1\.weight"),
        (videomae() | {"model.head.bias": (400,)}, {}, "are one and the same"),
        (videomae(100), {}, "how many heads a width of 100"),
        (videomae(768), {"heads": 7}, "does not divide into 7 heads"),
        (videomae() | {"patch_embed.proj.weight": (768, 768)}, {}, "5 dimensions are needed"),
        (videomae(), {"id2label": {"0": "a"}}, "names 1 classes, the head has 400 rows"),
        (videomae(classes=2), {"id2label": {"0": "a", "1": "a"}}, "one name to two classes"),
        (videomae(classes=2), {"id2label": {"0": "a", "2": "b"}}, "does not number its classes"),
        (videomae(classes=2), {"id2label": {"x": "a", "y": "b"}}, "are not row numbers"),
        (HUB, {"hidden_size": 512}, "hidden_size is 512, the tensors say 768"),
        (HUB, {"num_frames": "many"}, "num_frames must be a positive integer, got 'many'"),
        (HUB, {"use_mean_pooling": False}, "take the mean"),
        (HUB, {"num_frames": 15}, "do not divide into tubelets"),
        (internvideo2(places=2000), {}, "2000 places"),
        (fluxvit(table=(3, 3, 3)), {}, "tables have 7776 or 12800"),
    ],
)  # fmt: skip
def test_what_no_network_has_is_refused(shapes: Shapes, settings: dict, text: str) -> None:
    with pytest.raises(CheckpointError, match=text):
        recognise(shapes, settings)


@pytest.mark.parametrize(
    ("preprocessor", "text"),
    [
        ({"image_mean": [0.5]}, "image_mean is not three numbers"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std is not three numbers"),
    ],
)
def test_a_preprocessor_that_makes_no_sense_is_refused(preprocessor: dict, text: str) -> None:
    with pytest.raises(CheckpointError, match=text):
        recognise(HUB, {}, preprocessor)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        (videomae() | {"blocks.3.attn.q_bias": (700,)},
         "the tensor blocks.3.attn.q_bias is [700], videomae_b16 needs [768]"),
        (videomae() | {"blocks.3.attn.rope": (4,)},
         "the tensor blocks.3.attn.rope is unknown: it is no part of VideoMAE, VideoMAEv2 or UMT "
         "in the authors' keys"),
        ({k: s for k, s in videomae().items() if k != "blocks.3.mlp.fc2.bias"},
         "the tensor blocks.3.mlp.fc2.bias is missing"),
        ({k: s for k, s in videomae().items() if k != "fc_norm.bias"},
         "the tensor fc_norm.bias is missing"),
        (HUB | {"videomae.embeddings.cls_token": (1, 1, 768)},
         "the tensor videomae.embeddings.cls_token is unknown: it is no part of VideoMAE in "
         "transformers' keys"),
        (vjepa2() | {"pooler.query_tokens": (1, 2, 1024)},
         "the tensor pooler.query_tokens is [1, 2, 1024], vjepa2_l16 needs [1, 1, 1024]"),
        ({k: s for k, s in fluxvit().items() if k != "head.2.bias"},
         "the tensor head.2.bias is missing"),
        (fluxvit() | {"gpe_proj.depthwise_conv.bias": (7,)},
         "the tensor gpe_proj.depthwise_conv.bias is [7], fluxvit_b14 needs [768]"),
    ],
)  # fmt: skip
def test_one_sentence_says_which_key_does_not_fit(shapes: Shapes, problem: str) -> None:
    found = recognise(shapes)
    assert found.problems == (problem,)
    with pytest.raises(CheckpointError) as caught:
        found.translate({})
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"id2label": {"0": None}}, "names class 0 None"),
        ({"id2label": {"0": " "}}, "names class 0 ' '"),
        ({"id2label": {"0": "a\n"}}, "names class 0 'a"),
        ({"layer_norm_eps": "tiny"}, "layer_norm_eps must lie in .0, 1., got 'tiny'"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps must lie"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, text: str) -> None:
    with pytest.raises(CheckpointError, match=text):
        recognise(vjepa2(classes=1), settings)


def test_a_mean_that_is_no_number_is_refused() -> None:
    with pytest.raises(CheckpointError, match="image_mean is not three numbers"):
        recognise(HUB, {}, {"image_mean": [float("nan"), 0.5, 0.5]})
