"""Keys and shapes of published files, written out from their descriptions, at any size."""

import torch
from torch import Tensor

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


def filled(shapes: Shapes, seed: int = 0, scale: float = 0.2) -> dict[str, Tensor]:
    """Tensors in which everything matters: norms and scales around one, the rest around zero.

    Args:
        scale: standard deviation of each.
    """
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        one = key.endswith(("gamma", "depthwise_conv.weight")) or (
            "norm" in key and key.endswith("weight")
        )
        made[key] = 1 + scale * noise if one else scale * noise
    return made


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, ins: int, outs: int) -> Shapes:
    return {f"{name}.weight": (outs, ins), f"{name}.bias": (outs,)}


def videomae(
    D: int = 768, depth: int = 12, tubelet: int = 2, classes: int = 400, patch: int = 16
) -> Shapes:
    """MCG-NJU/VideoMAE, VideoMAEv2, and with ``tubelet=1`` UMT."""
    shapes: Shapes = {
        "patch_embed.proj.weight": (D, 3, tubelet, patch, patch),
        "patch_embed.proj.bias": (D,),
    }
    for i in range(depth):
        b = f"blocks.{i}"
        shapes |= _norm(f"{b}.norm1", D) | _norm(f"{b}.norm2", D)
        shapes |= {f"{b}.attn.qkv.weight": (3 * D, D)}
        shapes |= {f"{b}.attn.q_bias": (D,), f"{b}.attn.v_bias": (D,)}
        shapes |= _linear(f"{b}.attn.proj", D, D)
        shapes |= _linear(f"{b}.mlp.fc1", D, 4 * D) | _linear(f"{b}.mlp.fc2", 4 * D, D)
    return shapes | _norm("fc_norm", D) | _linear("head", D, classes)


def mmaction2(shapes: Shapes, places: int = 1568) -> Shapes:
    """VideoMAE's keys as mmaction2 spells them, with the sinusoid table in the file."""
    renamed: Shapes = {}
    for key, shape in shapes.items():
        name = key.replace("patch_embed.proj", "patch_embed.projection")
        name = name.replace("mlp.fc1", "mlp.layers.0.0").replace("mlp.fc2", "mlp.layers.1")
        head = name.startswith("head.")
        renamed[name.replace("head.", "cls_head.fc_cls.") if head else f"backbone.{name}"] = shape
    return renamed | {"backbone.pos_embed": (1, places, shapes["fc_norm.weight"][0])}


def pooler(name: str, D: int, out: int) -> Shapes:
    shapes: Shapes = {}
    for letter in "qkv":
        shapes |= _norm(f"{name}.norm1_{letter}", D)
        shapes[f"{name}.cross_attn.{letter}.weight"] = (D, D)
        shapes[f"{name}.cross_attn.{letter}_bias"] = (D,)
    return shapes | _linear(f"{name}.cross_attn.proj", D, out)


def _trunk(D: int, depth: int, mlp: int, places: int, patch: int) -> Shapes:
    shapes: Shapes = {
        "patch_embed.proj.weight": (D, 3, 1, patch, patch),
        "patch_embed.proj.bias": (D,),
        "cls_token": (1, 1, D),
        "pos_embed": (1, 1 + places, D),
    }
    for i in range(depth):
        b = f"blocks.{i}"
        shapes |= {f"{b}.{name}.weight": (D,) for name in ("norm1", "norm2")}
        shapes |= {f"{b}.attn.{name}.weight": (D,) for name in ("q_norm", "k_norm")}
        shapes |= {f"{b}.attn.qkv.weight": (3 * D, D)}
        shapes |= _linear(f"{b}.attn.proj", D, D)
        shapes |= _linear(f"{b}.mlp.fc1", D, mlp) | _linear(f"{b}.mlp.fc2", mlp, D)
        shapes |= {f"{b}.ls1.gamma": (D,), f"{b}.ls2.gamma": (D,)}
    return shapes


def internvideo2(
    D: int = 768, depth: int = 12, mlp: int = 3072, places: int = 2048, classes: int = 400,
    out: int = 768, patch: int = 14,
) -> Shapes:  # fmt: skip
    """The fine-tuned classifier."""
    shapes = _trunk(D, depth, mlp, places, patch) | pooler("clip_projector", D, out)
    return shapes | _norm("fc_norm", out) | _linear("head", out, classes)


def distilled(shapes: Shapes) -> Shapes:
    """The distilled network, which has heads of the distillation in place of a classifier."""
    kept = {k: s for k, s in shapes.items() if not k.startswith(("head.", "fc_norm."))}
    D = shapes["cls_token"][-1]
    return kept | {
        "clip_pos_embed": shapes["pos_embed"],
        "clip_decoder.0.head.weight": (1408, D),
        "clip_decoder.0.norm.weight": (1408,),
        "final_clip_decoder.head.weight": (768, 768),
    }


def fluxvit(
    D: int = 768, depth: int = 12, table: Shape = (32, 20, 20), classes: int = 400, out: int = 768,
    patch: int = 14,
) -> Shapes:  # fmt: skip
    places = table[0] * table[1] * table[2]
    shapes = _trunk(D, depth, 4 * D, places, patch)
    shapes |= {
        "patch_embed.norm_before.weight": (patch * patch * 3,),
        "patch_embed.norm.weight": (D,),
        "gpe_proj.depthwise_conv.weight": (D, 1, 1, 1, 1),
        "gpe_proj.depthwise_conv.bias": (D,),
        "final_clip_decoder_for_projs.0.head.weight": (out, out),
        "final_clip_decoder_for_projs.1.norm.bias": (out,),
    }
    for i in range(depth):
        shapes[f"blocks.{i}.attn.lpe.depthwise_conv.weight"] = (D, 1, 1, 1, 1)
        shapes[f"blocks.{i}.attn.lpe.depthwise_conv.bias"] = (D,)
    for n in range(3):
        shapes |= pooler(f"clip_projector.{n}", D, out) | _linear(f"head.{n}", out, classes)
    return shapes | _norm("fc_norm", out)


def videomae_transformers(D: int = 768, depth: int = 12, classes: int = 400) -> Shapes:
    """The files on the hub, whose biases are called q_bias and v_bias."""
    e = "videomae.embeddings.patch_embeddings.projection"
    shapes: Shapes = {f"{e}.weight": (D, 3, 2, 16, 16), f"{e}.bias": (D,)}
    for i in range(depth):
        b = f"videomae.encoder.layer.{i}"
        shapes |= _norm(f"{b}.layernorm_before", D) | _norm(f"{b}.layernorm_after", D)
        for name in ("query", "key", "value"):
            shapes[f"{b}.attention.attention.{name}.weight"] = (D, D)
        shapes |= {f"{b}.attention.attention.{name}": (D,) for name in ("q_bias", "v_bias")}
        shapes |= _linear(f"{b}.attention.output.dense", D, D)
        shapes |= _linear(f"{b}.intermediate.dense", D, 4 * D)
        shapes |= _linear(f"{b}.output.dense", 4 * D, D)
    return shapes | _norm("fc_norm", D) | _linear("classifier", D, classes)


def vjepa2(D: int = 1024, depth: int = 24, mlp: int = 4096, classes: int = 174) -> Shapes:
    """The classifier; of the predictor two keys, which stand for all of it."""
    e = "vjepa2.encoder.embeddings.patch_embeddings.proj"
    shapes: Shapes = {f"{e}.weight": (D, 3, 2, 16, 16), f"{e}.bias": (D,)}

    def block(
        b: str, norms: tuple[str, str], attention: str, names: tuple[str, ...], mlp: int
    ) -> Shapes:
        found = _norm(f"{b}.{norms[0]}", D) | _norm(f"{b}.{norms[1]}", D)
        for name in names:
            found |= _linear(f"{b}.{attention}.{name}", D, D)
        return found | _linear(f"{b}.mlp.fc1", D, mlp) | _linear(f"{b}.mlp.fc2", mlp, D)

    for i in range(depth):
        shapes |= block(
            f"vjepa2.encoder.layer.{i}", ("norm1", "norm2"), "attention",
            ("query", "key", "value", "proj"), mlp,
        )  # fmt: skip
    shapes |= _norm("vjepa2.encoder.layernorm", D)
    shapes["vjepa2.predictor.embeddings.mask_tokens"] = (10, 1, 1, 384)
    shapes["vjepa2.predictor.proj.weight"] = (D, 384)
    shapes["pooler.query_tokens"] = (1, 1, D)
    norms = ("layer_norm1", "layer_norm2")
    for i in range(3):
        shapes |= block(
            f"pooler.self_attention_layers.{i}", norms, "self_attn",
            ("q_proj", "k_proj", "v_proj", "out_proj"), 4 * D,
        )  # fmt: skip
    shapes |= block(
        "pooler.cross_attention_layer", norms, "cross_attn", ("q_proj", "k_proj", "v_proj"), 4 * D
    )
    return shapes | _linear("classifier", D, classes)


def vjepa2_original(
    D: int = 1024, depth: int = 24, mlp: int = 4096, version: str = "2", role: str = ""
) -> Shapes:
    """The authors' own file of the pre-training; of the predictor one key, which stands for all.

    Args:
        version: "2" or "2.1".
        role: what the average is called; "" leaves it to the version.
    """
    average = role or ("target_encoder" if version == "2" else "ema_encoder")

    def encoder(b: str) -> Shapes:
        shapes: Shapes = {f"{b}.patch_embed.proj.weight": (D, 3, 2, 16, 16)}
        shapes |= {f"{b}.patch_embed.proj.bias": (D,)}
        for i in range(depth):
            shapes |= _original_block(f"{b}.blocks.{i}", D, mlp)
        if version == "2":
            return shapes | {f"{b}.pos_embed": (1, 8 * 16 * 16, D)} | _norm(f"{b}.norm", D)
        shapes |= {f"{b}.patch_embed_img.proj.weight": (D, 3, 1, 16, 16)}
        shapes |= {f"{b}.patch_embed_img.proj.bias": (D,)}
        shapes |= {f"{b}.{kind}_mod_embed": (1, 1, D) for kind in ("img", "video")}
        for i in range(4):
            shapes |= _norm(f"{b}.norms_block.{i}", D)
        return shapes

    within = "module.backbone"
    return {
        **encoder(f"encoder.{within}"),
        **encoder(f"{average}.{within}"),
        f"predictor.{within}.predictor_embed.weight": (384, D),
    }


def vjepa2_classifiers(D: int = 1024, classes: int = 174, depth: int = 3, sweep: int = 1) -> Shapes:
    """The authors' file of the attentive classifiers of a sweep."""
    shapes: Shapes = {}
    for n in range(sweep):
        c = f"classifiers.{n}.module"
        shapes[f"{c}.pooler.query_tokens"] = (1, 1, D)
        cross = f"{c}.pooler.cross_attention_block"
        shapes |= _norm(f"{cross}.norm1", D) | _norm(f"{cross}.norm2", D)
        shapes |= _linear(f"{cross}.xattn.q", D, D) | _linear(f"{cross}.xattn.kv", D, 2 * D)
        shapes |= _linear(f"{cross}.mlp.fc1", D, 4 * D) | _linear(f"{cross}.mlp.fc2", 4 * D, D)
        for i in range(depth):
            shapes |= _original_block(f"{c}.pooler.blocks.{i}", D, 4 * D)
        shapes |= _linear(f"{c}.linear", D, classes)
    return shapes


def nested(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors of V-JEPA 2 as its authors save them: a dict for each network, or classifier."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        network = ".".join(parts[: 2 if parts[0] == "classifiers" else 1])
        found.setdefault(network, {})[name.removeprefix(f"{network}.")] = tensor
    return found


def _original_block(b: str, D: int, mlp: int) -> Shapes:
    shapes = _norm(f"{b}.norm1", D) | _norm(f"{b}.norm2", D)
    shapes |= _linear(f"{b}.attn.qkv", D, 3 * D) | _linear(f"{b}.attn.proj", D, D)
    return shapes | _linear(f"{b}.mlp.fc1", D, mlp) | _linear(f"{b}.mlp.fc2", mlp, D)


def dinov3_blocks(name: str, depth: int, D: int = 768) -> Shapes:
    """Blocks under the names of DINOv3's checkpoints."""
    found: Shapes = {}
    for i in range(depth):
        b = f"{name}blocks.{i}"
        found |= _norm(f"{b}.norm1", D) | _norm(f"{b}.norm2", D)
        found |= _linear(f"{b}.attn.qkv", D, 3 * D) | _linear(f"{b}.attn.proj", D, D)
        found |= _linear(f"{b}.mlp.fc1", D, 4 * D) | _linear(f"{b}.mlp.fc2", 4 * D, D)
        found |= {f"{b}.ls1.gamma": (D,), f"{b}.ls2.gamma": (D,)}
    return found


def lookwhen(selector: str, extractor: str, D: int = 768) -> Shapes:
    """The known shapes of LookWhen's own file, under names that somebody might have given them."""
    return {
        f"{selector}patch_embed.proj.weight": (D, 3, 16, 16),
        f"{selector}patch_embed.proj.bias": (D,),
        f"{selector}cls_token": (1, 1, D),
        f"{extractor}pos_embed": (1, 3136, D),
        f"{selector}score.2.weight": (8, 4 * D),
        "video_head.0.weight": (4 * D, D),
        "video_head.2.weight": (D, 4 * D),
        "frames_head.2.weight": (16 * D, 4 * D),
        "temperature": (),
        **dinov3_blocks(selector, 3, D),
        **dinov3_blocks(extractor, 12, D),
    }
