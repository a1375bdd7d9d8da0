"""Stored features: the same as on the fly, sharded, resumable, and of nothing else."""

import dataclasses
import json
import pickle
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from bundle.sampling import Views
from model.config import ModelConfig, get_config
from training.datasets import DataSet, MultiLabel, TooManyLost, evaluation_batches
from training.datasets.lists import read_unlabelled
from training.moving_things.dataset import read_store
from training.moving_things.store import ClipStore, write_store
from training.processes import Processes, precision
from training.targets import selection_target
from training.teachers import Teacher, TeacherError, TeacherFeatures
from training.teachers.__main__ import main
from training.teachers.features import FeatureStore, FeatureStoreError, Fingerprint, shard_path
from training.teachers.image import IMAGE_CONFIGS, ImageViT
from training.teachers.local import load_image_teacher, save_image_teacher
from training.teachers.storing import clip_bytes, clips_of, fingerprint_of, store_features

pytestmark = pytest.mark.slow

CLIPS, SHARD = 9, 4
CONFIG = ModelConfig(name="small", frames=4, size=64, width=32, heads=2, rope=False)
CPU = torch.device("cpu")
ALONE = Processes(0, 1, CPU)
PARTS = ("frames", "patches", "attention")
TARGETS = ("top1_distance", "random")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, CLIPS, 0, workers=0)
    return read_store(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_image_teacher(ImageViT(IMAGE_CONFIGS["image_tiny"]), path, {})
    return path


def fingerprint(
    clips: DataSet,
    weights: Path,
    config: ModelConfig = CONFIG,
    parts: tuple[str, ...] = PARTS,
    targets: tuple[str, ...] = TARGETS,
    shard: int = SHARD,
    name: str = "local_image",
) -> Fingerprint:
    return fingerprint_of(name, weights, clips, config, parts=parts, targets=targets, shard=shard)


@pytest.fixture(scope="module")
def stored(clips: DataSet, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    out = tmp_path_factory.mktemp("features")
    told: list[int] = []
    lost = store_features(
        load_image_teacher(weights), clips, CONFIG, fingerprint(clips, weights), out,
        processes=ALONE, batch=3, progress=told.append,
    )  # fmt: skip
    assert lost == []
    assert sum(told) == CLIPS
    return FeatureStore(out)


def on_the_fly(clips: DataSet, weights: Path, entries: list[int]) -> tuple[Tensor, TeacherFeatures]:
    batches = evaluation_batches(
        clips.subset(entries), CONFIG, batch=len(entries), workers=0, views=Views(1, 1)
    )
    frames = next(iter(batches)).frames
    with precision(CPU):
        return frames, load_image_teacher(weights)(frames, attention=True)


def test_stored_features_are_those_on_the_fly(
    stored: FeatureStore, clips: DataSet, weights: Path
) -> None:
    entries = [7, 0, 4, 8]
    frames, fresh = on_the_fly(clips, weights, entries)
    kept = stored.features(entries)
    assert kept.video is None
    for part in PARTS:
        one, other = getattr(kept, part), getattr(fresh, part)
        assert one.dtype == torch.float32
        # Products are in bfloat16 where the processor has it, and the batches were others.
        torch.testing.assert_close(one, other, atol=2e-2, rtol=2e-2, msg=part)
        assert (one - other).abs().mean() < 2e-3, part
    distance = stored.target("top1_distance", entries)
    target = selection_target("top1_distance", CONFIG.grid)
    assert distance is not None
    assert distance.shape == (4, CONFIG.tokens)
    torch.testing.assert_close(distance, target(frames, fresh), atol=5e-3, rtol=5e-2)
    drawn = selection_target("random", CONFIG.grid)(frames, fresh, entries)
    assert torch.equal(stored.target("random", torch.tensor(entries)), drawn)
    assert stored.target("attention", entries) is None


def test_stored_features_are_the_same_where_training_computes_in_bfloat16(
    stored: FeatureStore,
) -> None:
    plain = stored.features([3, 1])
    with torch.autocast("cpu", torch.bfloat16):
        inside = stored.features([3, 1])
        target = stored.target("top1_distance", [3, 1])
    assert torch.equal(inside.patches, plain.patches)
    assert torch.equal(inside.frames, plain.frames)
    assert torch.equal(target, stored.target("top1_distance", [3, 1]))


def test_storing_changes_nothing_but_the_digits_of_float16(
    clips: DataSet, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, one clip at a time on both sides: what is left is float16's rounding."""
    teacher = load_image_teacher(weights)
    exact = fingerprint(clips, weights, targets=())
    monkeypatch.setattr("training.teachers.storing.precision", lambda _: nullcontext())
    store_features(teacher, clips, CONFIG, exact, tmp_path, processes=ALONE, batch=1)
    batches = evaluation_batches(clips, CONFIG, batch=1, workers=0)
    store = FeatureStore(tmp_path)
    for entry, batch in enumerate(batches):
        fresh, kept = teacher(batch.frames, attention=True), store.features([entry])
        for part in ("frames", "patches"):
            torch.testing.assert_close(
                getattr(kept, part), getattr(fresh, part).half().float(), msg=part
            )
        torch.testing.assert_close(kept.attention, fresh.attention)


def test_a_store_travels_to_other_processes_and_reads_only_its_own(
    stored: FeatureStore, clips: DataSet
) -> None:
    stored.features([0])
    copy = pickle.loads(pickle.dumps(stored))
    assert torch.equal(copy.features([5]).frames, stored.features([5]).frames)
    assert len(copy) == CLIPS
    assert copy.readable.all()
    copy.check(clips, CONFIG)
    bare = (dataclasses.replace(entry, labels=()) for entry in clips.entries)
    copy.check(DataSet("bare", tuple(bare), (), MultiLabel(0)), CONFIG)  # no teacher sees labels
    # The same clips in another order, other ones, and views of another shape.
    for wrong in (clips.subset(range(8, -1, -1)), clips.subset(range(8))):
        with pytest.raises(FeatureStoreError, match="other clips"):
            copy.check(wrong, CONFIG)
    with pytest.raises(FeatureStoreError, match="views of 4 x 64 x 64, patch 16"):
        copy.check(clips, get_config("lookwhen_mini16"))
    with pytest.raises(IndexError, match="entry 9"):
        copy.features([9])
    with pytest.raises(IndexError, match="no entries"):
        copy.features([])


class Counting(Teacher):
    """The mean colour of a clip; notes what it was shown, and may be killed."""

    width = 3
    gives = frozenset({"video"})
    licence = "none"

    def __init__(self, last: int | None = None, loud: float = 1.0) -> None:
        super().__init__()
        self.shown, self.last, self.loud = 0, last, loud

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        if self.shown == self.last:
            raise KeyboardInterrupt
        self.shown += len(clip)
        return TeacherFeatures(video=clip.float().mean(dim=(1, 2, 3)) * self.loud)


def test_a_killed_run_goes_on_with_the_shards_that_are_missing(
    clips: DataSet, weights: Path, tmp_path: Path
) -> None:
    made_of = fingerprint(clips, weights, parts=("video",), targets=())

    def store(teacher: Teacher, out: Path) -> None:
        store_features(teacher, clips, CONFIG, made_of, out, processes=ALONE, batch=3)

    with pytest.raises(KeyboardInterrupt):
        store(Counting(last=6), tmp_path / "cut")
    assert shard_path(tmp_path / "cut", 0).exists()
    assert not shard_path(tmp_path / "cut", 1).exists()
    with pytest.raises(FeatureStoreError, match=r"not finished: 2 of 3 shards .* again"):
        FeatureStore(tmp_path / "cut")
    rest = Counting()
    store(rest, tmp_path / "cut")
    assert rest.shown == CLIPS - SHARD
    store(Counting(), tmp_path / "whole")
    one, other = FeatureStore(tmp_path / "cut"), FeatureStore(tmp_path / "whole")
    assert torch.equal(one.features(range(CLIPS)).video, other.features(range(CLIPS)).video)
    nothing_left = Counting()
    store(nothing_left, tmp_path / "cut")
    assert nothing_left.shown == 0


class _NoOthers(Processes):
    """One of two processes that need not wait for each other."""

    __slots__ = ()

    def wait(self) -> None:
        pass

    def gather(self, mine: Any) -> list[Any]:
        return [mine]


def test_processes_share_the_shards(clips: DataSet, weights: Path, tmp_path: Path) -> None:
    made_of = fingerprint(clips, weights, parts=("video",), targets=())
    shown, shares = [], []
    for rank in (0, 1):
        shares.append(clips_of(made_of, Processes(rank, 2, CPU)))
        teacher = Counting()
        # The other process does not run beside this one, so what it makes is missing at first.
        with (
            pytest.raises(FeatureStoreError, match="1 of 3 shards") if rank == 0 else nullcontext()
        ):
            store_features(
                teacher, clips, CONFIG, made_of, tmp_path,
                processes=_NoOthers(rank, 2, CPU), batch=3,
            )  # fmt: skip
        shown.append(teacher.shown)
    assert shown == shares == [5, 4]  # shards 0 and 2; shard 1
    assert FeatureStore(tmp_path).features(range(CLIPS)).video.shape == (CLIPS, 3)


def test_nodes_that_do_not_share_the_folder_are_told(
    clips: DataSet, weights: Path, tmp_path: Path
) -> None:
    class Apart(Processes):
        """Another process, on another node, does not see what this one has written."""

        def gather(self, mine: object) -> list[object]:
            return [mine, ("process 1 (node 1, b)", False)]

    fingerprint = fingerprint_of("local_image", weights, clips, CONFIG, parts=("frames",))
    with pytest.raises(FeatureStoreError, match=r"is not there for process 1 \(node 1, b\): every"):
        store_features(
            load_image_teacher(weights), clips, CONFIG, fingerprint, tmp_path / "store",
            processes=Apart(0, 1, CPU),
        )  # fmt: skip


def test_a_store_of_anything_else_is_refused(
    stored: FeatureStore, clips: DataSet, weights: Path, tmp_path: Path
) -> None:
    teacher = load_image_teacher(weights)
    others = {
        "another teacher": fingerprint(clips, weights, name="dinov3_vits16"),
        "other weights": fingerprint(clips, shard_path(stored.path, 0)),
        "views of another shape": fingerprint(
            clips, weights, config=dataclasses.replace(CONFIG, frames=6)
        ),
        "other clips": fingerprint(clips.subset(range(8, -1, -1)), weights),
        "another number of clips": fingerprint(clips.subset(range(8)), weights),
        "other parts": fingerprint(clips, weights, parts=("frames",)),
        "other targets": fingerprint(clips, weights, targets=()),
        "shards of another size": fingerprint(clips, weights, shard=3),
    }
    for difference, made_of in others.items():
        with pytest.raises(FeatureStoreError, match=f"made from {difference}"):
            store_features(teacher, clips, CONFIG, made_of, stored.path, processes=ALONE)
    with pytest.raises(FeatureStoreError, match="not a store of features"):
        FeatureStore(tmp_path)
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(FeatureStoreError, match="cannot be read"):
        FeatureStore(tmp_path)


def test_rendered_clips_of_another_seed_are_other_clips(
    clips: DataSet, weights: Path, tmp_path: Path
) -> None:
    write_store(tmp_path, CLIPS, 1, workers=0)
    mine, theirs = fingerprint(clips, weights), fingerprint(read_store(tmp_path), weights)
    assert mine.difference(theirs) is not None
    assert mine.difference(fingerprint(clips, weights)) is None


@pytest.fixture
def videos(clips: DataSet, tmp_path: Path) -> Path:
    """A folder of three videos, the second of which cannot be decoded."""
    store = ClipStore(clips.entries[0].path)
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(3):
        data = b"no video" if number == 1 else store[number].video
        (folder / f"{number}.mp4").write_bytes(data)
    return folder


def test_an_unreadable_clip_is_marked_and_skipped(
    videos: Path, weights: Path, tmp_path: Path
) -> None:
    dataset, out = read_unlabelled(videos), tmp_path / "out"
    # One clip in a shard: that of the unreadable one is written too.
    made_of = fingerprint(dataset, weights, parts=("video",), targets=(), shard=1)
    with pytest.raises(TooManyLost):
        store_features(Counting(), dataset, CONFIG, made_of, out, processes=ALONE, batch=1)
    lost = store_features(
        Counting(), dataset, CONFIG, made_of, out, processes=ALONE, batch=1, lost_share=0.5
    )
    assert [Path(name).name for name in lost] == ["1.mp4"]
    store = FeatureStore(out)
    np.testing.assert_array_equal(store.readable, [True, False, True])
    assert store.features([2, 0]).video.shape == (2, 3)
    with pytest.raises(FeatureStoreError, match="clip 1 could not be decoded"):
        store.features([0, 1])
    # A data set may be moved as a whole.
    moved = videos.rename(tmp_path / "elsewhere")
    store.check(read_unlabelled(moved), CONFIG)


def test_what_cannot_be_stored_is_said_before_or_when_it_shows(
    clips: DataSet, weights: Path, tmp_path: Path
) -> None:
    def store(teacher: Teacher, **chosen: tuple[str, ...]) -> None:
        made_of = fingerprint(clips, weights, **{"parts": (), "targets": (), **chosen})
        store_features(teacher, clips, CONFIG, made_of, tmp_path, processes=ALONE)

    with pytest.raises(TeacherError, match="gives no frames; it gives video"):
        store(Counting(), parts=("frames",))
    with pytest.raises(TeacherError, match="top1_distance needs a teacher's patches"):
        store(Counting(), targets=("top1_distance",))
    with pytest.raises(ValueError, match="nothing to store"):
        store(Counting())
    with pytest.raises(ValueError, match="no part 'tokens'"):
        store(Counting(), parts=("tokens",))
    with pytest.raises(KeyError, match="no selection target"):
        store(Counting(), targets=("luck",))
    assert not any(tmp_path.iterdir())
    with pytest.raises(TeacherError, match="float16 cannot"):
        store(Counting(loud=1e6), parts=("video",))


def test_the_command_line_stores_and_says_how_much(
    clips: DataSet, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.teachers.__main__.get_config", lambda _: CONFIG)
    data = ["moving-things", str(clips.entries[0].path), "--workers", "0"]
    run = ["store", "local_image", str(weights), str(tmp_path / "out"), *data]
    done = CliRunner().invoke(main, [*run, "--target", "top1_distance"])
    assert done.exit_code == 0, done.output
    made_of = fingerprint(clips, weights, parts=("frames", "attention"),
                          targets=("top1_distance",), shard=256)  # fmt: skip
    each = clip_bytes(load_image_teacher(weights), CONFIG, made_of)
    assert each == 2 * 4 * 32 + 4 * 64 + 4 * 64  # frames, attention, the target
    assert f"{each / 1e3:.1f} kB a clip" in done.output
    store = FeatureStore(tmp_path / "out")
    assert store.fingerprint == made_of
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["clips"] == CLIPS
    assert store.features([0]).patches is None
    again = CliRunner().invoke(main, [*run, "--target", "luck"])
    assert again.exit_code == 1
    assert "no selection target" in again.output
    other = CliRunner().invoke(main, [*run, "--part", "frames"])
    assert other.exit_code == 1
    assert "made from other parts" in other.output
