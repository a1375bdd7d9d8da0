"""Frame tokens know when they are: however a network starts, none is a copy of another."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from plain_teachers import Colours, Motion
from small_network import SMALL
from torch import Tensor

from model.checkpoint import load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from model.config import CONFIGS, ModelConfig
from model.dinov3 import initialise_from_dinov3
from model.resizing import at_size
from training.baselines.config import DENSE_CONFIGS, DenseConfig
from training.baselines.dense import DenseViT
from training.datasets import DataSet
from training.losses import LossWeights
from training.moving_things.dataset import read_store
from training.moving_things.store import write_store
from training.pretrain import PreTrainingRecipe, pretrain
from training.pretrain.start import Start, from_backbone
from training.processes import Processes
from training.sources import OnTheFly
from training.targets import ExtractorTargets
from training.teachers.train import train_video
from training.teachers.video import VideoRecipe

DEEPER = dataclasses.replace(SMALL, selector_depth=2, extractor_depth=2)
LIKE_DINOV3 = dataclasses.replace(DEEPER, name="like_dinov3", rope=True, layer_scale=1e-5)
DENSE = DenseConfig(name="dense_small", twin=DEEPER)
ALONE = Processes(0, 1, torch.device("cpu"))
# Nothing tells the frame tokens apart: one target for the video token, one for the patches.
WITHOUT_FRAMES = ExtractorTargets(change=False, frames=False)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, 18, 0, workers=0)
    return read_store(path)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for config in (DEEPER, LIKE_DINOV3):
        monkeypatch.setitem(CONFIGS, config.name, config)
    monkeypatch.setitem(DENSE_CONFIGS, DENSE.name, DENSE)


def dinov3_weights(config: ModelConfig, loudness: float = 1.0) -> dict[str, Tensor]:
    """Weights as the official checkpoints spell them, of a network with learnt layer scales."""
    generator = torch.Generator().manual_seed(0)
    D = config.width

    def drawn(*shape: int, std: float = 0.1) -> Tensor:
        return torch.randn(*shape, generator=generator) * std

    weights = {
        "cls_token": drawn(1, 1, D, std=0.1 * loudness),
        "storage_tokens": drawn(1, 4, D, std=0.1 * loudness),
        "patch_embed.proj.weight": drawn(D, 3, 16, 16, std=0.02 * loudness),
        "patch_embed.proj.bias": drawn(D, std=0.1 * loudness),
        "norm.weight": 1 + drawn(D),
        "norm.bias": drawn(D),
    }
    for i in range(config.extractor_depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * D, D),
            ("attn.proj", D, D),
            ("mlp.fc1", 4 * D, D),
            ("mlp.fc2", D, 4 * D),
        ):
            weights[f"blocks.{i}.{name}.weight"] = drawn(rows, columns)
            weights[f"blocks.{i}.{name}.bias"] = drawn(rows)
        for n in (1, 2):
            weights[f"blocks.{i}.norm{n}.weight"] = 1 + drawn(D)
            weights[f"blocks.{i}.norm{n}.bias"] = drawn(D)
            weights[f"blocks.{i}.ls{n}.gamma"] = 0.5 + drawn(D)
    return weights


def by_chance(clips: DataSet, tmp_path: Path) -> LookWhen:
    torch.manual_seed(0)
    return LookWhen(DEEPER)


def from_dinov3(clips: DataSet, tmp_path: Path) -> LookWhen:
    path = tmp_path / "dinov3.pth"
    torch.save(dinov3_weights(LIKE_DINOV3), path)
    return loaded(Start(dinov3=path), LIKE_DINOV3)


def from_a_backbone(clips: DataSet, tmp_path: Path) -> LookWhen:
    torch.manual_seed(0)
    return from_backbone(DEEPER, DenseViT(DENSE))


def from_a_video_teacher(clips: DataSet, tmp_path: Path) -> LookWhen:
    recipe = VideoRecipe(config=DENSE.name, steps=3, batch=4, dense_from=1.0)
    return loaded(
        Start(backbone=train_video(recipe, clips, tmp_path / "teacher", processes=ALONE)), DEEPER
    )


def from_an_older_start(clips: DataSet, tmp_path: Path) -> LookWhen:
    """A pre-training's checkpoint from when the prefix was nine copies of the class token."""
    path = tmp_path / "older.safetensors"
    save_checkpoint(copies(), path, {})
    return loaded(Start(checkpoint=path), DEEPER)


WAYS = [by_chance, from_dinov3, from_a_backbone, from_a_video_teacher, from_an_older_start]


def copies() -> LookWhen:
    torch.manual_seed(0)
    model = LookWhen(DEEPER)
    with torch.no_grad():
        model.selector.prefix.copy_(model.selector.prefix[:1].expand_as(model.selector.prefix))
    return model


def loaded(start: Start, config: ModelConfig) -> LookWhen:
    model = start.load(PreTrainingRecipe(config=config.name))
    assert model is not None
    return model


def trained(model: LookWhen, clips: DataSet, out: Path) -> LookWhen:
    """Four steps in which no target tells the frame tokens apart."""
    recipe = PreTrainingRecipe(
        config=model.config.name,
        steps=4,
        batch=4,
        learning_rate=1e-3,
        targets=WITHOUT_FRAMES,
        weights=LossWeights(map=0.5),
    )
    sources = {"image": OnTheFly(Colours(), "colours"), "video": OnTheFly(Motion(), "motion")}
    return load_checkpoint(pretrain(recipe, clips, out, processes=ALONE, start=model, **sources))[0]


def views(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Two views of noise in which each frame differs from the others."""
    shape = (2, config.frames, config.size, config.size, 3)
    frames = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1))
    brightness = torch.linspace(0.2, 1.0, config.frames)[None, :, None, None, None]
    return (frames * brightness).to(torch.uint8), torch.randperm(
        config.frames // 2, generator=torch.Generator().manual_seed(2)
    )


@torch.no_grad()
def tokens_of(model: LookWhen, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Context [B, P, D]; video and frame tokens that the extractor makes of it [B, P, D]."""
    small = frames[:, ::2, ::2, ::2].contiguous()
    _, context = model.eval().selector(small)
    features = model(frames, small, model.config.tokens).features
    return context, torch.cat([features.video[:, None], features.registers, features.frames], dim=1)


def apart(tokens: Tensor) -> float:
    """The smallest distance between two tokens of a row, of their length: [B, P, D] -> ..."""
    distances = torch.cdist(tokens, tokens)
    distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return (distances.min() / tokens.norm(dim=-1).mean()).item()


@pytest.mark.slow
@pytest.mark.parametrize("begin", WAYS)
def test_context_and_frame_tokens_are_no_copies(
    clips: DataSet, tmp_path: Path, begin: Callable[[DataSet, Path], LookWhen]
) -> None:
    """At the start, and after steps in which nothing but their time tells them apart."""
    model = begin(clips, tmp_path)
    frames, _ = views(model.config)
    for stage in (model, trained(model, clips, tmp_path / "run")):
        context, made = tokens_of(stage, frames)
        assert apart(context) > 0.01
        assert apart(made) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("begin", WAYS)
def test_frames_in_another_order_change_each_frame_token(
    clips: DataSet, tmp_path: Path, begin: Callable[[DataSet, Path], LookWhen]
) -> None:
    model = begin(clips, tmp_path)
    frames, order = views(model.config)
    pairs = torch.arange(model.config.frames).reshape(-1, 2)
    shuffled = frames[:, pairs[order].flatten()]
    before, after = (tokens_of(model, given) for given in (frames, shuffled))
    R = model.config.registers
    for one, other in zip(before, after, strict=True):
        change = (one - other)[:, R:].norm(dim=-1) / one[:, R:].norm(dim=-1)
        assert change.min() > 1e-3


@pytest.mark.slow
def test_a_frame_tokens_time_is_that_of_its_steps_patches(tmp_path: Path, clips: DataSet) -> None:
    """Each lies in the direction of its own row of the time table, and is mostly class token."""
    for model in (from_a_backbone(clips, tmp_path), from_dinov3(clips, tmp_path)):
        prefix, time = model.selector.prefix.detach(), model.selector.position.time.detach()
        place = prefix[1:] - prefix[:1]
        same = torch.nn.functional.cosine_similarity(place[:, None], time[None], dim=-1)
        assert same.argmax(dim=1).tolist() == list(range(len(time)))
        assert torch.allclose(same.diagonal(), torch.ones(len(time)), atol=1e-4)
        loudness = max(0.02, prefix[0].square().mean().sqrt().item())
        assert place.square().mean().sqrt().item() == pytest.approx(0.5 * loudness, rel=1e-3)


@pytest.mark.parametrize("loudness", [0.2, 1.0, 5.0])
def test_dinov3_sees_frames_as_before_but_for_a_little_time(loudness: float) -> None:
    model = LookWhen(LIKE_DINOV3).eval()
    initialise_from_dinov3(model, dinov3_weights(LIKE_DINOV3, loudness))
    assert not model.extractor.position.time.any()
    frames, _ = views(LIKE_DINOV3)
    small = frames[:, ::2, ::2, ::2].contiguous()
    embedded = model.selector.embedding(small.flatten(1).reshape(2, -1, 768)).detach()
    time = model.selector.position.time.detach()
    assert time.square().mean().sqrt() < 0.2 * embedded.square().mean().sqrt()
    assert apart(time[None]) > 0.1


@pytest.mark.parametrize("registers", [2, 4])
def test_further_registers_are_no_copies_either(registers: int) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(DEEPER, registers=registers)
    model = from_backbone(config, DenseViT(DENSE))
    assert apart(model.selector.prefix.detach()[None]) > 0.01
    config = dataclasses.replace(LIKE_DINOV3, registers=registers)
    model = LookWhen(config)
    initialise_from_dinov3(model, dinov3_weights(config))
    assert apart(model.selector.prefix.detach()[None]) > 0.01


def test_a_silent_class_token_has_a_time_too() -> None:
    backbone = DenseViT(DENSE)
    assert backbone.class_token is not None
    torch.nn.init.zeros_(backbone.class_token)
    assert not from_backbone(DEEPER, backbone).selector.context_has_copies()


def test_a_table_without_time_is_refused() -> None:
    selector = LookWhen(DEEPER).selector
    torch.nn.init.zeros_(selector.position.time)
    with pytest.raises(ValueError, match="does not tell its steps apart"):
        selector.start_context(selector.prefix[:1], selector.prefix[0])


@pytest.mark.slow
def test_older_checkpoints_answer_as_before_and_only_a_training_parts_their_copies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, path = copies(), tmp_path / "older.safetensors"
    save_checkpoint(older, path, {})
    again, _ = load_checkpoint(path)
    assert torch.equal(again.selector.prefix, older.selector.prefix)
    assert older.selector.context_has_copies()
    assert not caplog.text
    assert not loaded(Start(checkpoint=path), DEEPER).selector.context_has_copies()
    assert "older.safetensors: its frame tokens are copies of one another" in caplog.text
    torch.manual_seed(1)
    sound = LookWhen(DEEPER)
    save_checkpoint(sound, path, {})
    assert torch.equal(
        loaded(Start(checkpoint=path), DEEPER).selector.prefix, sound.selector.prefix
    )


@pytest.mark.long
def test_the_built_in_models_frame_tokens_are_no_copies(built_in_checkpoint: Path) -> None:
    model, _ = load_checkpoint(built_in_checkpoint)
    frames, _ = views(model.config)
    for tokens in tokens_of(model, frames):
        assert apart(tokens) > 1e-3


def test_tables_of_another_size_hold_no_copies() -> None:
    child = at_size(LookWhen(DEEPER), 160)
    for part in (child.selector, child.extractor):
        assert part.position.space is not None
        assert apart(part.position.space.detach()[None]) > 0.01
        assert apart(part.position.time.detach()[None]) > 0.01
