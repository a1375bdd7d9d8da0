"""Start both networks from DINOv3 ViT weights.

Three spellings of the same weights are read: the official checkpoints', timm's and transformers'.
DINOv3's weights come under the DINOv3 License: what is trained from them may be passed on only
under the same agreement.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from model.classifier import LookWhen
from model.layers import sincos

# Of an embedded patch's loudness: to blocks that know no time, a tenth is a small disturbance.
_TIME_SHARE = 0.1


class WeightsError(ValueError):
    """Weights that are not DINOv3's, or not of the configuration's width and depth."""


def initialise_from_dinov3(model: LookWhen, weights: Mapping[str, Tensor]) -> None:
    """Copy a DINOv3 ViT into selector and extractor, in place.

    The selector takes the first blocks, the extractor all it has room for. The first register
    starts as the class token, the others as DINOv3's registers, frame tokens as the class token in
    the time of their step (:meth:`model.selector.Selector.start_context`).

    The selector's time table starts as quiet sines and cosines: at zero, its frame tokens would
    say the same of a clip's frames in any order. The extractor's starts at zero, so that before
    training it sees every frame as the image model would. The context tells it the time, and the
    table's rows part at the first step, because each is added to other tokens.

    Args:
        model: a model with ``rope`` and ``layer_scale``, whose width fits.
        weights: a state dict in official, timm or transformers spelling.

    Raises:
        WeightsError: a key is missing, a shape does not fit, or the configuration has no room for
            these weights.

    Source: both networks from the teacher's weights, the selector from its first blocks, is
    LookWhere's; how frame tokens and time start is our choice.
    """
    config = model.config
    if not config.rope or config.layer_scale is None:
        raise WeightsError(f"{config.name} has no rotary embedding or layer scale, DINOv3 has both")
    deepest = max(config.selector_depth, config.extractor_depth)
    ours = read_dinov3(weights, width=config.width, depth=deepest)
    prefix = torch.cat([ours.pop("class"), ours.pop("registers")])
    registers = prefix[: config.registers]
    if len(registers) < config.registers:
        raise WeightsError(f"{config.registers} registers, DINOv3 has {len(prefix)} prefix tokens")
    for part, depth in (
        (model.selector, config.selector_depth),
        (model.extractor, config.extractor_depth),
    ):
        own = part.state_dict()
        for name, tensor in ours.items():
            block = re.match(r"blocks\.(\d+)\.", name)
            if block and int(block[1]) >= depth:
                continue
            if own[name].shape != tensor.shape:
                raise WeightsError(
                    f"{name} is {list(tensor.shape)}, {config.name} needs {list(own[name].shape)}"
                )
            own[name].copy_(tensor)
    selector = model.selector
    with torch.no_grad():
        time, amplitude = selector.position.time, _TIME_SHARE * selector.embedding.loudness()
        time.copy_(sincos(torch.linspace(0, 1, len(time)), config.width) * amplitude)
        model.extractor.position.time.zero_()
    selector.start_context(registers, prefix[0])


def read_dinov3(weights: Mapping[str, Tensor], *, width: int, depth: int) -> dict[str, Tensor]:
    """Any of the three spellings to this project's names, in float32.

    Returned are ``class`` [1, D] and ``registers`` [R, D]; ``embedding.projection.{weight,bias}``,
    the weight as a matrix over row, column, channel [D, patch*patch*3]; ``norm.{weight,bias}``; and
    of the first ``depth`` blocks ``blocks.N.`` with the official checkpoints' names, the bias of
    keys zero, because DINOv3 masks it.

    Raises:
        WeightsError: a key is missing, or the weights are not ``width`` wide.
    """
    keys = {re.sub(r"^(model|backbone|teacher)\.", "", key): key for key in weights}

    def take(*spellings: str) -> Tensor:
        for spelling in spellings:
            if spelling in keys:
                return weights[keys[spelling]].detach().float()
        raise WeightsError(f"not DINOv3 weights: there is none of {', '.join(spellings)}")

    def has(spelling: str) -> bool:
        return spelling in keys

    D = width
    class_token = take("cls_token", "embeddings.cls_token").reshape(1, -1)
    if class_token.shape[1] != D:
        raise WeightsError(f"weights are {class_token.shape[1]} wide, the model needs {D}")
    ours = {
        "class": class_token,
        "registers": take("storage_tokens", "reg_token", "embeddings.register_tokens").flatten(
            0, 1
        ),
        # A convolution's [D, 3, p, p] to a matrix over row, column, channel.
        "embedding.projection.weight": take(
            "patch_embed.proj.weight",
            "embeddings.patch_embeddings.weight",
        )
        .permute(0, 2, 3, 1)
        .flatten(1),
        "embedding.projection.bias": take(
            "patch_embed.proj.bias", "embeddings.patch_embeddings.bias"
        ),
        "norm.weight": take("norm.weight"),
        "norm.bias": take("norm.bias"),
    }
    for i in range(depth):
        block, layer = f"blocks.{i}", f"layer.{i}"
        for name in ("norm1", "norm2"):
            for kind in ("weight", "bias"):
                ours[f"{block}.{name}.{kind}"] = take(
                    f"{block}.{name}.{kind}", f"{layer}.{name}.{kind}"
                )
        ours[f"{block}.ls1.gamma"] = take(
            f"{block}.ls1.gamma", f"{block}.gamma_1", f"{layer}.layer_scale1.lambda1"
        )
        ours[f"{block}.ls2.gamma"] = take(
            f"{block}.ls2.gamma", f"{block}.gamma_2", f"{layer}.layer_scale2.lambda1"
        )
        for ours_name, theirs in (("fc1", "up_proj"), ("fc2", "down_proj")):
            for kind in ("weight", "bias"):
                ours[f"{block}.mlp.{ours_name}.{kind}"] = take(
                    f"{block}.mlp.{ours_name}.{kind}", f"{layer}.mlp.{theirs}.{kind}"
                )
        for kind in ("weight", "bias"):
            ours[f"{block}.attn.proj.{kind}"] = take(
                f"{block}.attn.proj.{kind}", f"{layer}.attention.o_proj.{kind}"
            )
        if has(f"{block}.attn.qkv.weight"):
            ours[f"{block}.attn.qkv.weight"] = take(f"{block}.attn.qkv.weight")
        else:
            ours[f"{block}.attn.qkv.weight"] = torch.cat(
                [take(f"{layer}.attention.{part}_proj.weight") for part in "qkv"]
            )
        bias = torch.zeros(3 * D)
        if has(f"{block}.attn.qkv.bias"):
            bias = take(f"{block}.attn.qkv.bias").clone()
        elif has(f"{block}.attn.q_bias"):
            bias[:D] = take(f"{block}.attn.q_bias")
            bias[2 * D :] = take(f"{block}.attn.v_bias")
        elif has(f"{layer}.attention.q_proj.bias"):
            bias[:D] = take(f"{layer}.attention.q_proj.bias")
            bias[2 * D :] = take(f"{layer}.attention.v_proj.bias")
        bias[D : 2 * D] = 0  # DINOv3 masks the bias of keys
        ours[f"{block}.attn.qkv.bias"] = bias
    return ours
