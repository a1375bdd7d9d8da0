"""Views that a stem looks at once, and what is learnt from them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stem_network import STEMMED, stemmed

from model.checkpoint import load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from model.selection import select_top_k
from model.stem import StemEmbedding
from training.datasets import Augmentation, DataSet, DataSetError, TooManyLost
from training.datasets.lists import read_class_folders
from training.datasets.loading import StepShare
from training.finetune import RECIPES, FineTuningRecipe, Sharing, finetune, with_head
from training.finetune.stored_views import StoredViews, look_at_views
from training.moving_things.encode import encode
from training.processes import Processes

CPU = torch.device("cpu")
SHARE = StepShare(
    batch=2, seed=0, first=0, last=4, workers=0, rank=0, world=1, pin=False
)  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Two clips of each of two colours."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for label, colour in {"blue": (20, 20, 220), "red": (220, 20, 20)}.items():
        (root / label).mkdir()
        for number in range(2):
            frames = np.tile(np.array(colour, np.uint8), (8, 96, 96, 1))
            frames[:, 10 : 20 + 10 * number] = rng.integers(0, 256, (8, 10 + 10 * number, 96, 3))
            (root / label / f"{number}.mp4").write_bytes(encode(frames, 8.0))
    return read_class_folders(root)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "checkpoint.safetensors"
    save_checkpoint(stemmed(), path, {})
    return path


def look(
    start: Path, clips: DataSet, folder: Path, *, lost_share: float = 0.0, weights: str = "w"
) -> tuple[StoredViews, DataSet]:
    model, _ = load_checkpoint(start)
    return look_at_views(
        model, clips, folder, draws=2, lowest=0.75, augmentation=Augmentation(), seed=0,
        weights=weights, device=CPU, lost_share=lost_share,
    )  # fmt: skip


def test_a_step_learns_what_it_would_learn_from_pixels(
    start: Path, clips: DataSet, tmp_path: Path
) -> None:
    """Logits of stored views are those of the same views as pixels."""
    stored, there = look(start, clips, tmp_path)
    assert there.entries == clips.entries
    model, _ = load_checkpoint(start)
    stem = model.extractor.embedding
    assert isinstance(stem, StemEmbedding)
    kept = STEMMED.tokens // 4
    for batch in stored.batches(clips, SHARE):
        assert batch.frames.shape == (2, STEMMED.tokens, 1280)
        assert batch.target.tolist() == [clips.entries[int(e)].labels[0] for e in batch.entry]
        with torch.inference_mode():
            predicted = model(batch.frames, batch.clip_small, kept)
            chosen = select_top_k(model.selector(batch.clip_small)[0], kept)
        assert torch.equal(predicted.positions, chosen)
        # Where the stem looked there are numbers, and there alone.
        seen = batch.frames.isfinite().all(dim=-1)
        assert seen.gather(1, chosen).all()
        assert (seen.sum(dim=1) == kept + 2).all()


def test_epochs_take_the_draws_in_turn(start: Path, clips: DataSet, tmp_path: Path) -> None:
    stored, _ = look(start, clips, tmp_path)
    seen: dict[int, set[bytes]] = {}
    for batch in stored.batches(clips, {**SHARE, "last": 8}):  # four epochs of four clips
        for entry, small in zip(batch.entry.tolist(), batch.clip_small, strict=True):
            seen.setdefault(entry, set()).add(small.numpy().tobytes())
    assert {entry: len(views) for entry, views in seen.items()} == {0: 2, 1: 2, 2: 2, 3: 2}


def test_what_was_looked_at_is_not_looked_at_again(
    start: Path, clips: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(start, clips, tmp_path)
    before = load_file(tmp_path / "000001.safetensors")
    (tmp_path / "000001.safetensors").unlink()  # as where it was killed before
    looks: list[int] = []
    real = StemEmbedding.look
    monkeypatch.setattr(
        StemEmbedding, "look", lambda self, given: looks.append(len(given)) or real(self, given)
    )
    look(start, clips, tmp_path)
    assert looks == [2]
    after = load_file(tmp_path / "000001.safetensors")
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    with pytest.raises(DataSetError, match="holds views of other weights: w, not v"):
        look(start, clips, tmp_path, weights="v")


def test_a_clip_that_cannot_be_read_is_named(start: Path, clips: DataSet, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    entries = (dataclasses.replace(clips.entries[0], path=broken), *clips.entries[1:])
    damaged = dataclasses.replace(clips, entries=entries)
    with pytest.raises(TooManyLost, match="1 of 4 clips are missing or unreadable"):
        look(start, damaged, tmp_path / "strict")
    stored, there = look(start, damaged, tmp_path / "lenient", lost_share=0.5)
    assert [entry.name for entry in there.entries] == [entry.name for entry in entries[1:]]
    assert {int(e) for batch in stored.batches(there, SHARE) for e in batch.entry} <= {1, 2, 3}


def test_fine_tuning_on_stored_views_tells_the_classes_apart(
    start: Path, clips: DataSet, tmp_path: Path
) -> None:
    recipe = FineTuningRecipe(
        epochs=12, batch=4, learning_rate=1e-2, layer_decay=1.0, mixup=0.0, drop_path=0.0,
        stored_views=1, label_smoothing=0.0,
        augmentation=Augmentation(False, (1, 1), (1, 1), False, 0, 0, 0),
    )  # fmt: skip
    written = finetune(recipe, start, tmp_path, clips, processes=Processes(0, 1, CPU))
    assert len(list((tmp_path / "views").glob("*.safetensors"))) == 4
    losses = [float(row.split(",")[1]) for row in (tmp_path / "log.csv").read_text().split()[1:]]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    learnt = load_checkpoint(written)[0].state_dict()
    before = load_checkpoint(start)[0].state_dict()
    frozen = [n for n in learnt if n.startswith(("selector.", "extractor.embedding.network."))]
    assert frozen
    assert all(torch.equal(learnt[name], before[name]) for name in frozen)


def test_trainings_share_what_the_stem_saw(
    start: Path, clips: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As folds do: each learns from other clips, and the stem looks at each clip once."""
    looks: list[int] = []
    real = StemEmbedding.look
    monkeypatch.setattr(
        StemEmbedding, "look", lambda self, given: looks.append(len(given)) or real(self, given)
    )
    recipe = FineTuningRecipe(epochs=1, batch=2, mixup=0.0, stored_views=1)
    sharing = Sharing(clips, tmp_path / "views")
    for name, places in (("first", [0, 2]), ("second", [1, 3])):
        # Read anew, as another process would.
        again = read_class_folders(Path(clips.entries[0].path).parents[1]).subset(places)
        finetune(
            recipe, start, tmp_path / name, again, processes=Processes(0, 1, CPU), sharing=sharing
        )
    assert looks == [1] * len(clips)


@pytest.mark.parametrize(
    "changes",
    [{"mixup": 0.2}, {"train_selector": True}, {"dense_share": 0.1}, {"select_by": "random"}],
)
def test_what_stored_views_cannot_serve_is_refused(changes: dict[str, object]) -> None:
    recipe = FineTuningRecipe(mixup=0.0, stored_views=1)
    with pytest.raises(ValueError, match="stored views are of the tokens that the"):
        dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]


def test_fine_tuning_gives_a_stem_a_summary_that_begins_at_nothing(tmp_path: Path) -> None:
    """It answers as before until it has learnt, and learns from the first step on."""
    parent = LookWhen(dataclasses.replace(STEMMED, stem_summary=False)).eval()
    parent.load_state_dict(
        {name: tensor for name, tensor in stemmed().state_dict().items() if "summary" not in name}
    )
    recipe = dataclasses.replace(RECIPES["stem"], keep_head=True, learning_rate=0.1)
    model, (optimizer,) = with_head(parent, STEMMED.labels, recipe)
    assert model.config.stem_summary
    seen = torch.rand(3, STEMMED.tokens, 1280, generator=torch.Generator().manual_seed(0))
    small = torch.zeros(3, 2, 48, 48, 3, dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(
            model.eval()(seen, small, 5).logits, parent(seen, small, 5).logits
        )
    summary = model.extractor.summary
    assert summary is not None
    assert summary.dropout.p == recipe.summary_dropout > 0
    model.train()(seen, small, 5).logits.square().sum().backward()
    optimizer.step()
    assert summary.projection.weight.abs().max() > 0
    again, _ = with_head(model, STEMMED.labels, recipe)
    assert again.extractor.summary is not None
    assert torch.equal(again.extractor.summary.projection.weight, summary.projection.weight)
