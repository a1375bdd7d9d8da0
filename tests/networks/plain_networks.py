"""The published networks once more, written from their descriptions: one clip, head by head.

They share no code with ``networks``: they take the tensors of a file under its own keys, and loop
over heads, blocks and patches.
"""

import math

import torch
from torch import Tensor

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
Weights = dict[str, Tensor]


def layer_norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]


def rms_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"]


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    parts = []
    for one_q, one_k, one_v in zip(*(x.chunk(heads, -1) for x in (q, k, v)), strict=True):
        weights = torch.softmax(one_q @ one_k.T / math.sqrt(one_q.shape[-1]), -1)
        parts.append(weights @ one_v)
    return torch.cat(parts, -1)


def pixels(clip: Tensor, ids: list[int], patch: int, tubelet: int) -> list[Tensor]:
    """Normalised pixels of some tokens, each [3, t, p, p], as a convolution sees them."""
    side = clip.shape[1] // patch
    found = []
    for place in ids:
        step, row, column = place // side**2, place // side % side, place % side
        cut = clip[
            step * tubelet : (step + 1) * tubelet,
            row * patch : (row + 1) * patch,
            column * patch : (column + 1) * patch,
        ]
        found.append(((cut.float() / 255 - MEAN) / STD).permute(3, 0, 1, 2))
    return found


def convolved(w: Weights, parts: list[Tensor]) -> Tensor:
    kernel, bias = w["patch_embed.proj.weight"], w["patch_embed.proj.bias"]
    return torch.stack([(kernel * part).sum((1, 2, 3, 4)) + bias for part in parts])


def depth(w: Weights) -> int:
    return 1 + max(int(key.split(".")[1]) for key in w if key.startswith("blocks."))


def plain_videomae(
    w: Weights, clip: Tensor, ids: list[int], *, heads: int, patch: int, tubelet: int
) -> tuple[Tensor, Tensor]:
    """Logits and the vector before the head, of some tokens of a clip uint8 [T, H, W, 3]."""
    x = convolved(w, pixels(clip, ids, patch, tubelet))
    D = x.shape[1]
    for row, place in enumerate(ids):
        for j in range(D):
            if "pos_embed" in w:
                x[row, j] += w["pos_embed"][0, place, j]
            else:
                angle = place / 10000 ** (2 * (j // 2) / D)
                x[row, j] += math.cos(angle) if j % 2 else math.sin(angle)
    for i in range(depth(w)):
        b = f"blocks.{i}"
        y = layer_norm(w, f"{b}.norm1", x, 1e-6)
        q, k, v = (y @ w[f"{b}.attn.qkv.weight"].T).chunk(3, -1)
        q, v = q + w[f"{b}.attn.q_bias"], v + w[f"{b}.attn.v_bias"]
        x = x + linear(w, f"{b}.attn.proj", attend(q, k, v, heads))
        y = gelu(linear(w, f"{b}.mlp.fc1", layer_norm(w, f"{b}.norm2", x, 1e-6)))
        x = x + linear(w, f"{b}.mlp.fc2", y)
    video = layer_norm(w, "fc_norm", x.mean(0, keepdim=True), 1e-6)
    return linear(w, "head", video)[0], video[0]


def pooled(w: Weights, name: str, x: Tensor, heads: int) -> Tensor:
    """InternVideo2's attention pooling: [L, D] -> [1, V]."""
    made = []
    for letter, source in (("q", x.mean(0, keepdim=True)), ("k", x), ("v", x)):
        normed = layer_norm(w, f"{name}.norm1_{letter}", source, 1e-5)
        matrix, bias = f"{name}.cross_attn.{letter}.weight", f"{name}.cross_attn.{letter}_bias"
        made.append(normed @ w[matrix].T + w[bias])
    return linear(w, f"{name}.cross_attn.proj", attend(*made, heads))


def plain_internvideo2(
    w: Weights, clip: Tensor, ids: list[int], *, heads: int, pooler_heads: int, patch: int
) -> tuple[Tensor, Tensor]:
    """Logits and the vector before the head, of some tokens of a clip uint8 [T, H, W, 3]."""
    x = convolved(w, pixels(clip, ids, patch, 1))
    x = torch.cat([w["cls_token"][0], x])
    x = x + w["pos_embed"][0, [0, *(1 + place for place in ids)]]
    for i in range(depth(w)):
        x = internvideo2_block(w, f"blocks.{i}", x, heads)
    video = layer_norm(w, "fc_norm", pooled(w, "clip_projector", x, pooler_heads), 1e-5)
    return linear(w, "head", video)[0], video[0]


def internvideo2_block(w: Weights, b: str, x: Tensor, heads: int) -> Tensor:
    q, k, v = (rms_norm(w, f"{b}.norm1", x) @ w[f"{b}.attn.qkv.weight"].T).chunk(3, -1)
    q, k = rms_norm(w, f"{b}.attn.q_norm", q), rms_norm(w, f"{b}.attn.k_norm", k)
    y = attend(q, k, v, heads)
    scale = f"{b}.attn.lpe.depthwise_conv.weight"
    if scale in w:
        y = y + v * w[scale][:, 0, 0, 0, 0] + w[f"{b}.attn.lpe.depthwise_conv.bias"]
    x = x + linear(w, f"{b}.attn.proj", y) * w[f"{b}.ls1.gamma"]
    y = gelu(linear(w, f"{b}.mlp.fc1", rms_norm(w, f"{b}.norm2", x)))
    return x + linear(w, f"{b}.mlp.fc2", y) * w[f"{b}.ls2.gamma"]


def plain_fluxvit(
    w: Weights, clip: Tensor, ids: list[int], *, heads: int, pooler_heads: int, patch: int,
    table: tuple[int, int, int], budgets: tuple[int, ...],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Logits and the vector before the head, of some tokens of a clip uint8 [T, H, W, 3]."""
    D = w["cls_token"].shape[-1]
    flat = []
    for part in pixels(clip, ids, patch, 1):
        values = part.permute(1, 2, 3, 0).flatten()  # row, column, channel
        values = rms_norm(w, "patch_embed.norm_before", values)
        flat.append(values.reshape(1, patch, patch, 3).permute(3, 0, 1, 2))
    x = rms_norm(w, "patch_embed.norm", convolved(w, flat))
    # The map of the table, then linear over time and bicubic over space, frame by frame.
    places = w["pos_embed"][0, 1:].T.reshape(D, *table)
    scale = w["gpe_proj.depthwise_conv.weight"][:, 0, 0, 0, 0]
    places = places * scale[:, None, None, None]
    places = places + w["gpe_proj.depthwise_conv.bias"][:, None, None, None]
    T, side = clip.shape[0], clip.shape[1] // patch
    rows = []
    for step in range(T):
        at = min(max((step + 0.5) * table[0] / T - 0.5, 0), table[0] - 1)
        low = math.floor(at)
        high = min(low + 1, table[0] - 1)
        frame = places[:, low] * (1 - (at - low)) + places[:, high] * (at - low)
        if (side, side) != table[1:]:
            frame = torch.nn.functional.interpolate(frame[None], (side, side), mode="bicubic")[0]
        rows.append(frame.flatten(1).T)
    grid = torch.cat(rows)
    x = torch.cat([w["cls_token"][0] + w["pos_embed"][0, :1], x + grid[ids]])
    for i in range(depth(w)):
        x = internvideo2_block(w, f"blocks.{i}", x, heads)
    nearest = min(range(len(budgets)), key=lambda n: abs(budgets[n] - len(ids)))
    vector = pooled(w, f"clip_projector.{nearest}", x, pooler_heads)
    video = layer_norm(w, "fc_norm", vector, 1e-5)
    return linear(w, f"head.{nearest}", video)[0], video[0]


def plain_vjepa21(
    w: Weights, clip: Tensor, ids: list[int], *, heads: int, patch: int, blocks: int
) -> tuple[Tensor, Tensor]:
    """V-JEPA 2.1's encoder, ``w`` under its keys without a prefix; the mean of its tokens twice."""
    side = clip.shape[1] // patch
    x = convolved(w, pixels(clip, ids, patch, 2)) + w["video_mod_embed"][0, 0]
    places = [
        (
            place // side**2,
            15 * (place // side % side) / (side - 1),
            15 * (place % side) / (side - 1),
        )
        for place in ids
    ]
    for i in range(blocks):
        b = f"blocks.{i}"
        q, k, v = linear(w, f"{b}.attn.qkv", layer_norm(w, f"{b}.norm1", x, 1e-6)).chunk(3, -1)
        q, k = (torch.stack([_turned(t, at, heads) for t, at in zip(y, places, strict=True)])
                for y in (q, k))  # fmt: skip
        x = x + linear(w, f"{b}.attn.proj", attend(q, k, v, heads))
        hidden = gelu(linear(w, f"{b}.mlp.fc1", layer_norm(w, f"{b}.norm2", x, 1e-6)))
        x = x + linear(w, f"{b}.mlp.fc2", hidden)
    mean = layer_norm(w, "norms_block.3", x, 1e-6).mean(0)
    return mean, mean


def _turned(token: Tensor, place: tuple[float, float, float], heads: int) -> Tensor:
    """One token's queries or keys, turned pair by pair."""
    turned = token.clone().reshape(heads, -1)
    width = turned.shape[1]
    part = 2 * (width // 3 // 2)
    for axis, at in enumerate(place):
        for pair in range(part // 2):
            angle = at * 10000 ** (-2 * pair / part)
            cos, sin = math.cos(angle), math.sin(angle)
            first = axis * part + 2 * pair
            one, two = turned[:, first].clone(), turned[:, first + 1].clone()
            turned[:, first] = one * cos - two * sin
            turned[:, first + 1] = two * cos + one * sin
    return turned.flatten()
