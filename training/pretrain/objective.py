"""What a step of pre-training learns: the selector's map and the extractor's tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.config import ModelConfig
from model.extractor import Features
from model.layers import Mlp, initialise
from training.datasets import Batch
from training.hand_over import target_selects
from training.loop import Objective
from training.losses import extractor_losses, map_loss
from training.pretrain.recipes import PreTrainingRecipe
from training.sources import FeatureSource
from training.targets import ExtractorTargets, selection_target
from training.targets.nearest import METRICS


@dataclass(frozen=True, slots=True)
class PreTrainingStep:
    """What chance decides for one step, as a pure function of seed and step."""

    kept: int
    by_target: bool


def pretraining_step(
    recipe: PreTrainingRecipe, config: ModelConfig, step: int, steps: int
) -> PreTrainingStep:
    """Draw the step's K, and whether the target selects; every process draws the same."""
    rng = np.random.default_rng((recipe.seed, 1, step))
    low, high = config.lowest_sparsity, config.highest_sparsity
    if recipe.levels is None:
        sparsity = rng.uniform(low, high)
    else:
        sparsity = rng.choice(np.linspace(low, high, recipe.levels))
    by_target = target_selects(recipe.hand_over, step / steps, rng)
    return PreTrainingStep(tokens_to_keep(float(sparsity), config.tokens), by_target)


class Heads(nn.Module):
    """From the extractor's tokens to what teachers say, one head per target.

    Source: the released checkpoint has two, D -> 4 D -> the target, for the video token's two
    targets. Frame and patch tokens are compared as they are where the widths agree, else through a
    linear map: our choice.
    """

    def __init__(
        self,
        config: ModelConfig,
        targets: ExtractorTargets,
        *,
        video: int,
        image: int,
        patches: int,
    ) -> None:
        """``video`` and ``image``: the teachers' widths; ``patches``: the image teacher's."""
        super().__init__()
        D, hidden = config.width, config.mlp_ratio * config.width
        heads: dict[str, nn.Module] = {}
        if targets.video:
            heads["video"] = Mlp(D, hidden, video)
        if targets.change:
            heads["change"] = Mlp(D, hidden, config.frames * image)
        if targets.frames:
            heads["frames"] = nn.Identity() if image == D else nn.Linear(D, image)
        if targets.patches:
            heads["patches"] = nn.Identity() if patches == D else nn.Linear(D, patches)
        self.heads = nn.ModuleDict(heads)
        self.apply(initialise)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """The prediction for each target, of the target's shape ([B, K, D] for patches)."""
        tokens = {
            "video": features.video,
            "change": features.video,
            "frames": features.frames,
            "patches": features.patches,
        }
        return {name: head(tokens[name]) for name, head in self.heads.items()}


@torch.no_grad()
def overlap(scores: Tensor, target: Tensor, kept: int) -> float:
    """Share of the target's best K tokens that scores [B, N] put among theirs, from 0 to 1."""
    own, best = (s.topk(kept, dim=1).indices for s in (scores, target))
    chosen = torch.zeros_like(target, dtype=torch.bool).scatter_(1, own, True)
    return chosen.gather(1, best).float().mean().item()


class PreTraining(Objective):
    """Selector and extractor learn at once, from what the sources say of each view."""

    def __init__(
        self,
        model: LookWhen,
        recipe: PreTrainingRecipe,
        steps: int,
        *,
        image: FeatureSource | None,
        video: FeatureSource | None,
    ) -> None:
        """Raises ValueError where a target has no source, KeyError for an unknown target."""
        super().__init__()
        self.model, self.recipe, self.steps = model, recipe, steps
        config = model.config
        # Without a map loss nothing tells the selector what to choose, and its head stays as it is.
        self.learns_map = recipe.weights.map > 0
        model.selector.head.requires_grad_(self.learns_map)
        self.wants_target = self.learns_map or recipe.hand_over[1] > 0
        self.selection = selection_target(recipe.selection, config.grid, metric=recipe.metric)
        self.sources = {"image": image, "video": video}
        self._check()
        self.heads = Heads(
            config,
            recipe.targets,
            video=video.width if video else 0,
            image=image.width if image else 0,
            patches=image.patch_width if image else 0,
        )

    def _check(self) -> None:
        """Each target finds what it is made of, before the first clip is decoded."""
        targets = self.recipe.targets
        self.parts: dict[str, set[str]] = {"image": set(), "video": set()}
        wanted = [
            ("the video target", "video", "video", targets.video),
            ("the change target", "image", "frames", targets.change),
            ("the frames target", "image", "frames", targets.frames),
            ("the patches target", "image", "patches", targets.patches),
        ]
        teacher = self.recipe.selection_teacher
        source = self.sources[teacher]
        # What is stored ready-made was computed with the default metric.
        known = source is not None and self.recipe.selection in source.targets
        self.ready = known and self.recipe.metric == METRICS[0]
        for part in sorted(self.selection.needs):
            needed = self.wants_target and not self.ready
            wanted.append((self.recipe.selection, teacher, part, needed))
        for what, name, part, needed in wanted:
            given = self.sources[name]
            if needed and (given is None or part not in given.gives):
                raise ValueError(f"{what} needs the {name} teacher's {part}")
            if needed:
                self.parts[name].add(part)

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        recipe, config = self.recipe, self.model.config
        drawn = pretraining_step(recipe, config, step, self.steps)
        with torch.no_grad():
            said = self._said(batch)
            target = self._selection_target(batch, said) if self.wants_target else None
            targets = recipe.targets.build(
                config.grid, config.frames // 2, video=said["video"], image=said["image"]
            )
        if recipe.layer_norm_targets:
            done = {"change"} if recipe.targets.normalise else set()
            targets = {
                name: tensor if name in done else F.layer_norm(tensor, tensor.shape[-1:])
                for name, tensor in targets.items()
            }
        predicted = self.model(
            batch.frames,
            batch.clip_small,
            drawn.kept,
            selection=target if drawn.by_target else None,
        )
        losses = {}
        if self.learns_map and target is not None:
            losses["map"] = map_loss(predicted.scores, target, recipe.map_temperature)
        losses |= extractor_losses(
            self.heads(predicted.features), targets, predicted.positions, config.grid
        )
        shown = {f"{name}_loss": loss.item() for name, loss in losses.items()}
        if target is not None:
            shown = {"overlap": overlap(predicted.scores, target, drawn.kept), **shown}
        return recipe.weights.total(losses), {
            **shown,
            "sparsity": 1 - drawn.kept / config.tokens,
            "by_target": float(drawn.by_target),
        }

    def _said(self, batch: Batch) -> dict[str, Any]:
        """What each teacher says of the batch, as far as it matters; None where it does not.

        A teacher of both roles is asked once.
        """
        said: dict[str, Any] = dict.fromkeys(self.sources)
        for source in set(self.sources.values()):
            roles = [role for role, its in self.sources.items() if its is source]
            parts = set().union(*(self.parts[role] for role in roles))
            if source is not None and parts:
                features = source.features(batch.frames, batch.entry, parts)
                said |= {role: features for role in roles if self.parts[role]}
        return said

    def _selection_target(self, batch: Batch, said: Mapping[str, Any]) -> Tensor:
        teacher = self.recipe.selection_teacher
        source = self.sources[teacher]
        if source is not None and self.ready:
            return source.target(self.recipe.selection, batch.entry)
        return self.selection(batch.frames, said[teacher], seeds=batch.entry.tolist())
