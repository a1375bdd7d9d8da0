"""FluxViT's checkpoints.

Source: the key names of OpenGVLab/FluxViT (``single_modality``).
"""

import torch
from torch import Tensor

from model.checkpoint import CheckpointError
from networks.checkpoints.internvideo2 import (
    KEY_BIAS,
    pooler_slots,
    resized_below_class,
    trunk_slots,
)
from networks.checkpoints.published import Given, PublishedFormat, Slot
from networks.checkpoints.shapes import (
    fresh_norm,
    head_rows,
    head_slots,
    heads_of,
    labels_of,
    named,
    norm_slots,
    shown_as,
)
from networks.checkpoints.steps import PER_CHANNEL, WITHOUT_BATCH, Shape
from networks.config import NetworkConfig

# The grids that the published tables cover, by their number of places.
_GRIDS = {grid[0] * grid[1] * grid[2]: grid for grid in ((24, 18, 18), (32, 20, 20))}


class FluxViTFormat(PublishedFormat):
    """InternVideo2's keys and more: norms around the patch embedding, three poolers and heads."""

    title = "FluxViT"
    marks = frozenset({"patch_embed.norm_before.weight", "clip_projector.0.norm1_q.weight"})
    left_out = (
        (r"final_clip_decoder_for_projs\.", "a head of the distillation"),
        (r"clip_projector\.\d+\.cross_attn\.k_bias$", KEY_BIAS),
    )

    def configure(self, given: Given) -> NetworkConfig:
        width, _, tubelet, patch, _ = given.shape("patch_embed.proj.weight", 5)
        rows = head_rows(given, "head.0.weight")
        poolers = given.depth(r"clip_projector\.(\d+)\.")
        config = named(
            "fluxvit", width, given.depth(r"blocks\.(\d+)\."), patch=patch, tubelet=tubelet,
            heads=heads_of(given, width),
            mlp_width=given.shape("blocks.0.mlp.fc1.weight", 2)[0],
            video_width=given.shape("clip_projector.0.cross_attn.proj.weight", 2)[0],
            pooler_heads=given.settings.get("pooler_heads"),
            budgets=given.settings.get("budgets"),
            labels=labels_of(given.settings, rows) if rows else (),
            frames=given.frames, size=given.size,
        )  # fmt: skip
        if poolers != len(config.budgets):
            raise CheckpointError(
                f"it has {poolers} poolers, FluxViT one for each of {len(config.budgets)} "
                "numbers of tokens"
            )
        _table(given)
        return shown_as(config, given)

    def slots(self, config: NetworkConfig, given: Given) -> dict[str, Slot]:
        found = trunk_slots(config)
        found |= {
            "patch_embed.norm_before.weight": Slot("embedding.norm_before.weight"),
            "patch_embed.norm.weight": Slot("embedding.norm.weight"),
            "pos_embed": Slot("table", WITHOUT_BATCH),
            "gpe_proj.depthwise_conv.weight": Slot("table scale", PER_CHANNEL),
            "gpe_proj.depthwise_conv.bias": Slot("table shift"),
        }
        for i in range(config.depth):
            theirs, ours = f"blocks.{i}.attn.lpe.depthwise_conv.", f"blocks.{i}.attn.own_"
            found[f"{theirs}weight"] = Slot(f"{ours}scale", PER_CHANNEL)
            found[f"{theirs}bias"] = Slot(f"{ours}shift")
        for n in range(len(config.budgets)):
            found |= pooler_slots(f"clip_projector.{n}.", f"pooler.{n}.")
            found |= head_slots(config, given, f"head.{n}.", f"head.{n}.")
        return found | norm_slots(config, given)

    def combined(self, config: NetworkConfig, given: Given) -> dict[str, Shape]:
        D = config.width
        places = given.shape("pos_embed", 3)[1]
        return {"table": (places, D), "table scale": (D,), "table shift": (D,)}

    def finish(self, tensors: dict[str, Tensor], config: NetworkConfig, given: Given) -> None:
        table = tensors.pop("table")
        scale, shift = tensors.pop("table scale"), tensors.pop("table shift")
        mapped = torch.cat([table[:1], table[1:] * scale + shift])
        tensors["positions"] = resized_below_class(mapped, _table(given), config)
        fresh_norm(tensors, config)


def _table(given: Given) -> tuple[int, int, int]:
    """The grid that the table of places covers.

    Raises:
        CheckpointError: it is none of the published.
    """
    places = given.shape("pos_embed", 3)[1] - 1
    stated = given.settings.get("table_grid")
    if stated is None and places in _GRIDS:
        return _GRIDS[places]
    if stated is None or len(stated) != 3 or stated[0] * stated[1] * stated[2] != places:
        raise CheckpointError(
            f"the tensor pos_embed has {places} places; FluxViT's tables have "
            f"{' or '.join(map(str, _GRIDS))}"
        )
    return stated[0], stated[1], stated[2]


FLUXVIT = FluxViTFormat()
