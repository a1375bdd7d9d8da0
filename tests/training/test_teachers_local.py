"""Local teachers: self-distillation on frames, labels on clips, and the files they leave."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from model.config import ModelConfig
from training.baselines.config import DENSE_CONFIGS, DenseConfig, Pooling
from training.baselines.dense import Dense, DenseViT
from training.datasets import DataSet, MultiLabel, training_batches
from training.moving_things.dataset import read_store
from training.moving_things.store import write_store
from training.processes import Processes
from training.running import Running
from training.targets import pixel_change
from training.teachers import TeacherError, create_teacher
from training.teachers.__main__ import main
from training.teachers.crops import Crops, FrameCrops, crop_batches
from training.teachers.distillation import IMAGE_RECIPES, Distillation
from training.teachers.image import IMAGE_CONFIGS, ImageConfig, ImageViT
from training.teachers.local import (
    LocalImageTeacher,
    class_attention,
    load_image_teacher,
    load_video_teacher,
    save_image_teacher,
    save_video_teacher,
    teacher_facts,
)
from training.teachers.train import train_image, train_video
from training.teachers.video import (
    FindChange,
    VideoObjective,
    VideoRecipe,
    drawn_positions,
    planned_sparsity,
)

pytestmark = pytest.mark.slow

ALONE = Processes(0, 1, torch.device("cpu"))
SAVING = Running(save_every=2)
IMAGE = dataclasses.replace(
    IMAGE_RECIPES["tiny"], steps=14, batch=4, crops=Crops(size=64, local_size=32, locals=1)
)
TWIN = ModelConfig(
    name="small", frames=4, size=64, width=32, heads=2, extractor_depth=2, rope=False,
    layer_scale=None,
)  # fmt: skip
VIDEO = VideoRecipe(
    config="dense_small",
    steps=12,
    batch=4,
    sparsities=(0.75, 0.5),
    dense_from=0.75,
    dense_batch=0.5,
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, 6, 0, workers=0)
    return read_store(path)


@pytest.fixture(scope="module")
def unlabelled(clips: DataSet) -> DataSet:
    return dataclasses.replace(
        clips,
        labels=(),
        task=MultiLabel(0),
        entries=tuple(dataclasses.replace(entry, labels=()) for entry in clips.entries),
        mirror={},
    )


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DENSE_CONFIGS, "dense_small", DenseConfig(name="dense_small", twin=TWIN))


def log_of(out: Path, name: str = "loss") -> list[float]:
    with (out / "log.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def clip_of(frames: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, frames, size, size, 3), generator=generator).to(torch.uint8)


# The image teacher


@pytest.mark.long
def test_an_image_teacher_is_trained_without_labels_and_read_back(
    unlabelled: DataSet, tmp_path: Path
) -> None:
    path = train_image(IMAGE, unlabelled, tmp_path, processes=ALONE, data="clips")
    losses = log_of(tmp_path)
    assert len(losses) == IMAGE.steps
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    for kind in ("class", "patch"):  # no prediction is better than the target itself
        floor = log_of(tmp_path, f"{kind}_entropy")
        assert all(a > b for a, b in zip(log_of(tmp_path, f"{kind}_loss"), floor, strict=True))

    # What is written is the moving average: neither where it began nor the student.
    torch.manual_seed(IMAGE.seed)
    began = Distillation(IMAGE).teacher.backbone.state_dict()
    state = load_file(tmp_path / "state.safetensors")
    for name, written in load_file(path).items():
        torch.testing.assert_close(written, state[f"model/teacher.backbone.{name}"])
        if written.ndim > 1:
            assert not torch.equal(written, state[f"model/student.backbone.{name}"]), name
            assert not torch.equal(written, began[name]) or name == "mask_token", name
    assert teacher_facts(path)["data"] == "clips"
    assert teacher_facts(path)["recipe"]["crops"]["masked"] == IMAGE.crops.masked

    teacher = create_teacher("local_image", path)
    clip = clip_of(3, 64)
    said = teacher(clip, attention=True)
    assert said.video is None
    assert said.frames.shape == (2, 3, 32)
    assert said.patches.shape == (2, 3, 4, 4, 32)
    sums = said.attention.sum(dim=(2, 3))  # over a frame: the rest goes to class and registers
    assert said.attention.min() >= 0
    assert ((sums > 0) & (sums <= 1 + 1e-6)).all()
    again = load_image_teacher(path)(clip, attention=True)
    assert torch.equal(said.patches, again.patches)
    assert torch.equal(said.attention, again.attention)
    assert teacher(clip).attention is None


def test_the_image_teacher_gives_its_networks_own_tokens_whatever_the_step() -> None:
    torch.manual_seed(0)
    network = ImageViT(IMAGE_CONFIGS["image_tiny"])
    clip = clip_of(5, 64)
    said = LocalImageTeacher(network, frames_per_step=3)(clip)
    with torch.no_grad():
        tokens = network(clip.flatten(0, 1))
    torch.testing.assert_close(said.frames, tokens[:, 0].reshape(2, 5, -1))
    torch.testing.assert_close(said.patches.flatten(2, 3), tokens[:, 2:].reshape(2, 5, 16, -1))
    # Frames of another size: the table of positions is interpolated.
    assert LocalImageTeacher(network)(clip_of(1, 96)).patches.shape == (2, 1, 6, 6, 32)
    with pytest.raises(ValueError, match="do not divide"):
        LocalImageTeacher(network)(clip_of(1, 40))


@pytest.mark.long
def test_a_killed_image_training_goes_on_as_if_nothing_had_happened(
    clips: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(IMAGE, steps=5)
    whole = train_image(recipe, clips, tmp_path / "whole", processes=ALONE, running=SAVING)
    real = Distillation.stepped

    def killed(self: Distillation, step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt
        real(self, step)

    monkeypatch.setattr(Distillation, "stepped", killed)
    with pytest.raises(KeyboardInterrupt):
        train_image(recipe, clips, tmp_path / "cut", processes=ALONE, running=SAVING)
    monkeypatch.setattr(Distillation, "stepped", real)
    cut = train_image(recipe, clips, tmp_path / "cut", processes=ALONE, running=SAVING)
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    for name, tensor in load_file(whole).items():
        assert torch.equal(tensor, load_file(cut)[name]), name


def test_the_teacher_follows_the_student_ever_more_slowly() -> None:
    recipe = dataclasses.replace(IMAGE, steps=10, momentum=0.5)
    objective = Distillation(recipe)
    for parameter in objective.student.parameters():
        torch.nn.init.ones_(parameter)
    for parameter in objective.teacher.parameters():
        torch.nn.init.zeros_(parameter)
    objective.stepped(4)  # half-way the momentum is half-way to 1
    moved = {round(float(p.flatten()[0]), 6) for p in objective.teacher.parameters()}
    assert moved == {0.25}
    objective.stepped(9)
    assert {round(float(p.flatten()[0]), 6) for p in objective.teacher.parameters()} == {0.25}
    assert not any(p.requires_grad for p in objective.teacher.parameters())


def test_masked_patches_are_not_seen() -> None:
    torch.manual_seed(0)
    network = ImageViT(IMAGE_CONFIGS["image_tiny"])
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[0, 5] = True  # row 1, column 1
    one, other = clip_of(1, 64)[:1, 0], clip_of(1, 64)[:1, 0].clone()
    other[:, 16:32, 16:32] = 0
    torch.testing.assert_close(network(one, mask), network(other, mask))
    assert not torch.allclose(network(one), network(other))


def test_crops_follow_from_seed_entry_and_draw(clips: DataSet) -> None:
    crops = Crops(size=64, local_size=32, locals=3, masked=0.25)
    views = FrameCrops(clips, crops, 16, seed=1)
    one, again, other = views[(2, 0)], views[(2, 0)], views[(2, 1)]
    assert one.whole.shape == (1, 2, 64, 64, 3)
    assert one.small.shape == (1, 3, 32, 32, 3)
    assert one.mask.sum() == 4
    assert torch.equal(one.whole, again.whole)
    assert torch.equal(one.small, again.small)
    assert not torch.equal(one.whole, other.whole)
    assert not torch.equal(one.whole[:, 0], one.whole[:, 1])
    halves = [
        next(iter(crop_batches(clips, crops, 16, batch=4, seed=1, first=0, last=1, workers=0,
                               rank=rank, world=2)))
        for rank in (0, 1)
    ]  # fmt: skip
    whole = next(iter(crop_batches(clips, crops, 16, batch=4, seed=1, first=0, last=1, workers=0)))
    assert torch.equal(torch.cat([half.entry for half in halves]), whole.entry[[0, 2, 1, 3]])
    with pytest.raises(ValueError, match="do not divide"):
        crop_batches(clips, Crops(size=60), 16, batch=4, seed=1, first=0, last=1, workers=0)


# The video teacher


@pytest.mark.long
def test_a_video_teacher_is_trained_on_labels_and_read_back(clips: DataSet, tmp_path: Path) -> None:
    path = train_video(VIDEO, clips, tmp_path, processes=ALONE)
    losses = log_of(tmp_path)
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    sparsities = log_of(tmp_path, "sparsity")
    assert set(sparsities[:9]) <= {0.75, 0.5}
    assert sparsities[9:] == [0.0] * 3
    assert min(log_of(tmp_path, "accuracy")) >= 0

    teacher = create_teacher("local_video", path)
    clip = clip_of(4, 64)
    said = teacher(clip, attention=True)
    assert said.frames is None
    assert said.video.shape == (2, 32)
    assert said.patches.shape == (2, 4, 4, 4, 32)
    sums = said.attention.sum(dim=(1, 2, 3))  # over the clip: the rest goes to the class token
    assert said.attention.min() >= 0
    assert ((sums > 0) & (sums <= 1 + 1e-6)).all()
    # The video token is what the classifier reads.
    backbone = load_video_teacher(path).network
    assert backbone.config.twin.labels == clips.labels
    torch.testing.assert_close(backbone.head(said.video), Dense(backbone)(clip).logits)
    # Clips of another shape are brought to the network's.
    assert torch.equal(teacher(clip.repeat_interleave(2, dim=1)).video, teacher(clip).video)


def test_attention_is_what_the_last_block_computes() -> None:
    torch.manual_seed(0)
    twin = dataclasses.replace(TWIN, heads=1, rope=True, labels=("a", "b"))
    network = DenseViT(DenseConfig(name="one head", twin=twin)).requires_grad_(False)
    block = network.blocks[0]
    positions = torch.arange(64).expand(2, -1)
    rope = network.rotation(positions)
    x = torch.randn(2, 65, 32)
    _, _, values = block.attn.split(block.norm1(x))
    by_weights = class_attention(block, x, rope)[:, None, None] @ values
    torch.testing.assert_close(
        block.attn.join(by_weights, values)[:, 0], block.attn(block.norm1(x), rope, None)[:, 0]
    )


def test_part_of_the_tokens_are_those_that_change_and_others_by_chance() -> None:
    change = torch.rand(2, 100)
    positions = drawn_positions(change, 20, 0.6)
    assert positions.shape == (2, 20)
    assert (positions.diff(dim=1) > 0).all()
    for row, kept in zip(change, positions, strict=True):
        most = set(row.topk(12).indices.tolist())
        assert most <= set(kept.tolist())
    assert not torch.equal(positions, drawn_positions(change, 20, 0.6))
    assert torch.equal(drawn_positions(change, 100, 0.6)[0], torch.arange(100))
    assert planned_sparsity(VIDEO, 3) == planned_sparsity(VIDEO, 3)
    assert len({planned_sparsity(VIDEO, step) for step in range(9)}) == 2


def test_a_dense_step_is_shown_fewer_clips_and_change_is_per_token(clips: DataSet) -> None:
    loader = training_batches(
        clips, TWIN, batch=4, seed=0, first=0, last=1, workers=0, finish=FindChange(16, 1)
    )
    batch = next(iter(loader))
    assert batch.change.shape == (4, 64)
    expected = pixel_change(batch.frames[1].numpy(), 16)
    np.testing.assert_array_equal(batch.change[1].numpy(), expected)
    spans = FindChange(16, 2)(batch)  # tokens of two frames
    np.testing.assert_array_equal(
        spans.change[1].numpy(), expected.reshape(2, 2, 16).max(axis=1).reshape(-1)
    )
    seen: list[int] = []
    twin = dataclasses.replace(TWIN, labels=clips.labels)
    backbone = DenseViT(DenseConfig(name="dense_small", twin=twin))
    backbone.norm.register_forward_hook(lambda _, __, x: seen.extend(x.shape[:2]))
    objective = VideoObjective(backbone, clips.task, VIDEO)
    objective(batch, 11)
    assert seen == [2, 65]


def test_a_video_teacher_needs_labels(unlabelled: DataSet, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="learns from labels"):
        train_video(VIDEO, unlabelled, tmp_path, processes=ALONE)


def test_a_video_teacher_can_start_from_an_extractor(clips: DataSet, tmp_path: Path) -> None:
    torch.manual_seed(1)
    parent = LookWhen(dataclasses.replace(TWIN, labels=clips.labels))
    start = tmp_path / "start.safetensors"
    save_checkpoint(parent, start, {"clips_seen": 5})
    still = dataclasses.replace(VIDEO, steps=1, learning_rate=0.0, matrix_learning_rate=0.0)
    path = train_video(still, clips, tmp_path / "run", processes=ALONE, start=start)
    weights = load_video_teacher(path).network.state_dict()
    for name, tensor in parent.extractor.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    assert torch.equal(weights["head.weight"], parent.head.weight)
    assert teacher_facts(path)["clips_seen"] == 5 + still.batch

    for fields in ({"extractor_depth": 3}, {"width": 64}):
        other = LookWhen(dataclasses.replace(TWIN, labels=clips.labels, **fields))
        save_checkpoint(other, start, {})
        with pytest.raises(TeacherError, match="does not fit dense_small"):
            train_video(still, clips, tmp_path / "other", processes=ALONE, start=start)


# Files


def test_files_that_are_no_such_teacher_are_refused(tmp_path: Path) -> None:
    image, video, other = (tmp_path / f"{n}.safetensors" for n in ("image", "video", "other"))
    network = ImageViT(IMAGE_CONFIGS["image_tiny"])
    save_image_teacher(network, image, {})
    save_video_teacher(DenseViT(DENSE_CONFIGS["dense_small"]), video, {"seed": 1})
    assert teacher_facts(video) == {"seed": 1}
    with pytest.raises(TeacherError, match="holds a local_video teacher, not a local_image one"):
        load_image_teacher(video)
    with pytest.raises(TeacherError, match="holds a local_image teacher"):
        create_teacher("local_video", image)
    with pytest.raises(TeacherError, match="no such file"):
        load_image_teacher(tmp_path / "nowhere")
    other.write_text("weights")
    with pytest.raises(TeacherError, match="cannot be read as safetensors"):
        load_image_teacher(other)
    save_checkpoint(LookWhen(dataclasses.replace(TWIN, labels=("a",))), other, {})
    with pytest.raises(TeacherError, match="holds no local teacher"):
        load_image_teacher(other)

    weights = load_file(image)

    def damaged(config: object = None, **changes: torch.Tensor | None) -> None:
        kept = {k: v for k, v in {**weights, **changes}.items() if v is not None}
        fields = config or dataclasses.asdict(network.config)
        described = json.dumps({"kind": "local_image", "config": fields})
        save_file(kept, other, {"lookwhen_teacher": described})

    damaged(prefix=None)
    with pytest.raises(TeacherError, match="the tensor prefix is missing"):
        load_image_teacher(other)
    damaged(extra=torch.zeros(1))
    with pytest.raises(TeacherError, match="the tensor extra is unknown"):
        load_image_teacher(other)
    damaged(prefix=torch.zeros(3, 32))
    with pytest.raises(TeacherError, match=r"prefix is \[3, 32\], its configuration needs"):
        load_image_teacher(other)
    damaged(config={"name": "x", "heads": 5})
    with pytest.raises(TeacherError, match="configuration is not usable"):
        load_image_teacher(other)


def test_what_cannot_be_built_says_why(clips: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="patches of 16"):
        ImageConfig(name="x", size=100)
    with pytest.raises(KeyError, match="known: image_mini16"):
        train_image(dataclasses.replace(IMAGE, config="x"), clips, tmp_path, processes=ALONE)
    mean = dataclasses.replace(DENSE_CONFIGS["dense_small"], pooling=Pooling.MEAN)
    save_video_teacher(DenseViT(mean), tmp_path / "mean.safetensors", {})
    with pytest.raises(TeacherError, match="no class token"):
        load_video_teacher(tmp_path / "mean.safetensors")


def test_the_command_line_trains_and_says_what_is_wrong(clips: DataSet, tmp_path: Path) -> None:
    data = ["moving-things", str(clips.entries[0].path), "--workers", "0"]
    run = ["train-image", str(tmp_path / "out"), *data, "--recipe", "tiny", "--batch", "2"]
    done = CliRunner().invoke(main, [*run, "--steps", "1"])
    assert done.exit_code == 0, done.output
    assert create_teacher("local_image", tmp_path / "out" / "teacher.safetensors").width == 32
    again = CliRunner().invoke(main, [*run, "--steps", "2"])
    assert again.exit_code == 1
    assert "another recipe" in again.output
    missing = CliRunner().invoke(main, ["train-video", str(tmp_path / "v"), "list", "nowhere.txt"])
    assert missing.exit_code == 1
    assert "nowhere.txt" in missing.output
