"""Self-distillation: how the local image teacher learns from pictures without labels.

A student sees crops of a picture and predicts what its own moving average, the teacher, says of
other crops of it; and, of patches that are masked for it, what the teacher says of them unmasked.

Source: DINO (class tokens over global and local crops, moving average), iBOT (masked patches, one
head for both), DINOv2 (Sinkhorn-Knopp in place of centring, KoLeo). Written from the papers.

Shape letters: B pictures, L local crops of each, N patches and m masked patches of a global crop,
R rows, C prototypes.
"""

import dataclasses
import math
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import initialise
from training.loop import LoopSettings, Objective
from training.teachers.crops import GLOBAL_CROPS, CropBatch, Crops
from training.teachers.image import ImageViT, get_image_config


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """One training of a local image teacher, whole. Defaults: moving-things on two cores.

    Attributes:
        momentum: share of the teacher that a step keeps; it rises to 1 along a cosine.
        teacher_temperature: at first, and after ``teacher_warm_up`` of the steps.
        patch_weight, koleo_weight: of the losses beside that of class tokens.
    """

    config: str = "image_mini16"
    crops: Crops = field(default_factory=Crops)
    seed: int = 0
    steps: int = 2500
    batch: int = 48
    accumulate: int = 1
    learning_rate: float = 1e-3  # AdamW's
    matrix_learning_rate: float = 2e-3  # Muon's
    weight_decay: float = 0.05
    warm_up: float = 0.1
    final_rate: float = 1e-2
    clip_gradient: float = 3.0
    drop_path: float = 0.0
    hidden: int = 512
    bottleneck: int = 128
    prototypes: int = 1024
    momentum: float = 0.994
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    teacher_warm_up: float = 0.3
    patch_weight: float = 1.0
    koleo_weight: float = 0.1

    @property
    def loop(self) -> LoopSettings:
        return LoopSettings.of(self, self.steps)


class Head(nn.Module):
    """Tokens to their cosine similarity with prototypes, through a bottleneck.

    Source: DINO's head, whose prototypes are normalised to length one.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        self.apply(initialise)
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, tokens: Tensor) -> Tensor:
        """[R, D] -> float32 [R, C], from -1 to 1."""
        x = F.normalize(self.layers(tokens).float(), dim=-1)
        return F.linear(x, F.normalize(self.prototypes, dim=-1)).float()


class Network(nn.Module):
    """What student and teacher each are: a backbone with its head."""

    def __init__(self, recipe: ImageRecipe) -> None:
        super().__init__()
        config = get_image_config(recipe.config)
        self.backbone = ImageViT(config, recipe.drop_path)
        self.head = Head(config.width, recipe.hidden, recipe.bottleneck, recipe.prototypes)


class Distillation(Objective):
    """The student, the teacher, and the loss between them.

    Attributes:
        student: trained.
        teacher: its moving average, frozen: what is kept in the end.
    """

    def __init__(self, recipe: ImageRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.student = Network(recipe)
        # The teacher sees with all of its blocks.
        self.teacher = Network(dataclasses.replace(recipe, drop_path=0.0)).requires_grad_(False)
        self.teacher.load_state_dict(self.student.state_dict())

    def forward(self, batch: CropBatch, step: int) -> tuple[Tensor, dict[str, float]]:
        recipe, B = self.recipe, len(batch.entry)
        # One crop after the other: rows of the first crops, then those of the second.
        whole = batch.whole.transpose(0, 1).flatten(0, 1)
        small = batch.small.transpose(0, 1).flatten(0, 1)
        nothing = torch.zeros_like(batch.mask).repeat(GLOBAL_CROPS - 1, 1)
        seen = self.student.backbone(whole, torch.cat([batch.mask, nothing]))
        classes = [seen[:, 0]]
        if len(small):
            classes.append(self.student.backbone(small)[:, 0])
        patches = self._masked(seen, batch.mask)
        rows = [*classes, patches]
        predicted = torch.log_softmax(
            self.student.head(torch.cat(rows)) / recipe.student_temperature, dim=-1
        )
        count = sum(map(len, classes))
        by_class, by_patch = predicted[:count], predicted[count:]
        with torch.no_grad():
            truth = self.teacher.backbone(whole)
            temperature = self._temperature(step)
            target = sinkhorn(self.teacher.head(truth[:, 0]), temperature)
            patch_target = sinkhorn(self.teacher.head(self._masked(truth, batch.mask)), temperature)
        C = recipe.prototypes
        class_loss = crop_loss(by_class.reshape(-1, B, C), target.reshape(-1, B, C))
        patch_loss = -(patch_target * by_patch).sum(dim=-1).mean()
        spreading = koleo(seen[:B, 0])
        loss = class_loss + recipe.patch_weight * patch_loss + recipe.koleo_weight * spreading
        return loss, {
            "class_loss": class_loss.item(),
            "patch_loss": patch_loss.item(),
            "alike": alike(truth[:B, 0]),
            "koleo": spreading.item(),
            # Below these no student comes; they change as the teacher does.
            "class_entropy": entropy(target),
            "patch_entropy": entropy(patch_target),
            "temperature": temperature,
        }

    def stepped(self, step: int) -> None:
        """Move the teacher towards the student."""
        progress = (step + 1) / self.recipe.steps
        momentum = 1 - (1 - self.recipe.momentum) * 0.5 * (1 + math.cos(math.pi * progress))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.teacher.parameters()), list(self.student.parameters()), 1 - momentum
            )

    def _masked(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The masked patches of the first crops: [2*B, 1 + registers + N, D] -> [B*m, D]."""
        patches = tokens[: len(mask), self.student.backbone.config.prefix :]
        return patches[mask]

    def _temperature(self, step: int) -> float:
        start, end = self.recipe.teacher_temperature
        warm = self.recipe.teacher_warm_up * self.recipe.steps
        return start + (end - start) * min(1.0, step / max(1.0, warm))


def crop_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy between every crop the student sees and every other one the teacher sees.

    Args:
        predicted: log-probabilities [crops, B, C], global crops first.
        target: probabilities [global crops, B, C], of the same global crops.
    """
    terms = [
        -(target[t] * predicted[s]).sum(dim=-1).mean()
        for t in range(len(target))
        for s in range(len(predicted))
        if s != t
    ]
    return torch.stack(terms).mean()


@torch.no_grad()
def sinkhorn(similarities: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Assign rows to prototypes such that all prototypes get as much: [R, C] -> [R, C].

    Rows of all processes together. Each row of the result sums to 1.

    Args:
        similarities: float32, at most 1.

    Source: SwAV, and DINOv2 in place of centring, with three iterations: it needs no state.
    """
    R, C = similarities.shape
    # No more than 1 before exp: nothing overflows, and all processes shift alike.
    shares = torch.exp((similarities - 1) / temperature)
    shares = shares / _over_processes(shares.sum())
    rows = _over_processes(torch.tensor(float(R), device=similarities.device))
    for _ in range(iterations):
        shares = shares / (_over_processes(shares.sum(dim=0, keepdim=True)) * C)
        shares = shares / (shares.sum(dim=1, keepdim=True) * rows)
    return shares * rows


def _over_processes(value: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(value)
    return value


def koleo(tokens: Tensor) -> Tensor:
    """How crowded tokens are: minus the mean log distance to the nearest other one, [B, D] -> [].

    Of rows of length one, within this process. One row alone is not crowded: 0.

    Source: Sablayrolles et al., "Spreading vectors for similarity search", as DINOv2 uses it.
    """
    x = F.normalize(tokens.float(), dim=-1)
    if len(x) < 2:
        return x.sum() * 0
    with torch.no_grad():
        closeness = (x @ x.T).fill_diagonal_(-torch.inf)
        nearest = closeness.argmax(dim=1)
    # The small number keeps the gradient of equal rows finite.
    distance = (x - x[nearest] + 1e-8).square().sum(dim=-1).sqrt()
    return -torch.log(distance + 1e-8).mean()


@torch.no_grad()
def entropy(probabilities: Tensor) -> float:
    """Mean entropy of rows in nats, [R, C]: what is left of a cross-entropy that cannot fall."""
    return float(-torch.xlogy(probabilities, probabilities).sum(dim=-1).mean())


@torch.no_grad()
def alike(tokens: Tensor) -> float:
    """Mean cosine similarity of different rows: 1 where training has collapsed, [B, D]."""
    x = F.normalize(tokens.float(), dim=-1)
    if len(x) < 2:
        return 0.0
    together = x.sum(dim=0).square().sum() - len(x)
    return float(together / (len(x) * (len(x) - 1)))


IMAGE_RECIPES: dict[str, ImageRecipe] = {
    # lookwhen train teachers image RUN moving-things STORE
    # 120,000 pictures. Measured: 7 ms of a core to crop one, 21 ms to learn from it (bfloat16,
    # AVX-512), so about half an hour on two cores that do nothing else. The paper's image teacher
    # is DINOv3; it is what to use where it can be had.
    "mini16": ImageRecipe(),
    # For pictures of the paper's size, with accelerators: ViT-S/16 and DINOv2's settings where they
    # do not need its size. Not run here.
    "s16": ImageRecipe(
        config="image_s16",
        crops=Crops(size=224, local_size=96, locals=8, area=(0.32, 1.0), local_area=(0.05, 0.32)),
        steps=100_000,
        batch=1024,
        drop_path=0.1,
        hidden=2048,
        bottleneck=256,
        prototypes=65_536,
        momentum=0.992,
    ),
    # Seconds: for tests, and to see that everything is in place.
    "tiny": ImageRecipe(
        config="image_tiny",
        crops=Crops(size=64, local_size=32, locals=2),
        steps=30,
        batch=8,
        hidden=64,
        bottleneck=32,
        prototypes=64,
        momentum=0.9,
    ),
}
