"""Evaluation over real clips: what is measured, what it costs, and what the report says."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torchcodec.decoders import VideoDecoder

from bundle.geometry import downscale
from bundle.sampling import Views, frame_indices
from bundle.tokens import tokens_to_keep
from bundle.views import crop, resize, resized_shape
from export.__main__ import read_accuracy
from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from model.config import ModelConfig
from model.layers import patchify
from model.macs import cost
from training import evaluate as evaluation
from training.baselines import RLT, DenseConfig, DenseViT
from training.data import StoreViews, decode_view, moving_tokens
from training.datasets import (
    DataSet,
    DataSetError,
    Entry,
    MultiLabel,
    TooManyLost,
    TopOne,
    VerbNoun,
    read_dataset,
)
from training.evaluation import (
    BaselineMethod,
    LookWhenMethod,
    measure,
    parse_baseline,
    result_of,
)
from training.evaluation.__main__ import main as together
from training.evaluation.predictions import (
    PredictionsError,
    read_predictions,
    write_predictions,
)
from training.moving_things.encode import encode
from training.moving_things.labels import LABELS
from training.moving_things.store import ClipStore, write_store

CLIPS = 8
SMALL = ModelConfig(
    name="small",
    size=64,
    width=32,
    heads=2,
    selector_depth=1,
    extractor_depth=1,
    rope=False,
    layer_scale=None,
    labels=LABELS,
)
DENSE = DenseConfig(name="dense_small", twin=SMALL)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, CLIPS, 0, workers=0)
    return path


@pytest.fixture(scope="module")
def store(clips: Path) -> DataSet:
    return read_dataset("moving-things", clips)


def loud(model: torch.nn.Module) -> None:
    """Weights so large that clips are told apart and every token matters."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)


@pytest.fixture(scope="module")
def model() -> LookWhen:
    torch.manual_seed(0)
    model = LookWhen(SMALL).eval()
    loud(model)
    return model


@pytest.fixture(scope="module")
def checkpoint(model: LookWhen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    save_checkpoint(model, path, {})
    return path


@pytest.fixture(scope="module")
def backbone() -> DenseViT:
    torch.manual_seed(0)
    network = DenseViT(DENSE).eval()
    loud(network)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of each of two classes, wider than high, and one file that is no video."""
    root = tmp_path_factory.mktemp("folder")
    random = np.random.default_rng(0)
    for label in LABELS[:2]:
        (root / label).mkdir()
        for clip in range(2):
            frames = random.integers(0, 255, (20, 6, 8, 3), dtype=np.uint8)
            frames = frames.repeat(16, axis=1).repeat(16, axis=2)
            (root / label / f"{clip}.mp4").write_bytes(encode(frames, 24, 8.0))
    (root / LABELS[1] / "torn.mp4").write_bytes(b"torn")
    return root


def view_of(clips: Path, index: int, temporal: int = 1) -> list[torch.Tensor]:
    """The temporal views of a stored clip, each uint8 [1, T, H, W, 3], read without a batch."""
    clip = ClipStore(clips)[index]
    return [
        torch.from_numpy(decode_view(clip.video, chosen, SMALL.size))[None]
        for chosen in frame_indices(clip.frames, SMALL.frames, temporal)
    ]


def crops_of(clips: Path, index: int, temporal: int) -> list[torch.Tensor]:
    """For each temporal view its three crops, uint8 [3, T, H, W, 3]."""
    clip = ClipStore(clips)[index]
    chosen = frame_indices(clip.frames, SMALL.frames, temporal)
    decoder = VideoDecoder(clip.video)
    crops = []
    for view in chosen:
        frames = decoder.get_frames_at(view.tolist()).data
        shape = resized_shape(frames.shape[-2], frames.shape[-1], SMALL.size)
        crops.append(crop(resize(frames, *shape), SMALL.size, 3))
    return crops


def answer_of(model: LookWhen, frames: torch.Tensor, sparsity: float) -> torch.Tensor:
    small = torch.from_numpy(downscale(frames.numpy()))
    kept = tokens_to_keep(sparsity, SMALL.tokens)
    with torch.inference_mode():
        logits: torch.Tensor = model(frames, small, kept).logits[0]
    return logits


def test_every_clip_is_answered_as_the_model_alone_answers_it(
    clips: Path, store: DataSet, model: LookWhen
) -> None:
    measured = measure(LookWhenMethod(model, [0.0, 0.9]), store, batch=3)
    assert measured.entries.tolist() == list(range(CLIPS))
    for sparsity, outcome in zip((0.0, 0.9), measured.outcomes, strict=True):
        expected = [
            answer_of(model, view_of(clips, i)[0], sparsity).softmax(0) for i in range(CLIPS)
        ]
        np.testing.assert_allclose(outcome.probabilities, torch.stack(expected), atol=1e-5)
        kept = tokens_to_keep(sparsity, SMALL.tokens)
        assert (outcome.kept == kept).all()
        assert (outcome.macs == cost(SMALL).at(kept)).all()


def test_views_are_averaged_after_the_softmax_and_paid_for(
    clips: Path, store: DataSet, model: LookWhen
) -> None:
    method = LookWhenMethod(model, [0.8])
    over_time = measure(method, store.subset([0, 3]), views=Views(2, 1)).outcomes[0]
    with_crops = measure(method, store.subset([0, 3]), views=Views(2, 3)).outcomes[0]
    for row, clip in enumerate((0, 3)):
        views = view_of(clips, clip, 2)
        each = [answer_of(model, view, 0.8).softmax(0) for view in views]
        np.testing.assert_allclose(
            over_time.probabilities[row], torch.stack(each).mean(0), atol=1e-5
        )
        crops = [crop for view in crops_of(clips, clip, 2) for crop in view]
        each = [answer_of(model, view[None], 0.8).softmax(0) for view in crops]
        np.testing.assert_allclose(
            with_crops.probabilities[row], torch.stack(each).mean(0), atol=1e-5
        )
    kept = tokens_to_keep(0.8, SMALL.tokens)
    assert with_crops.macs.tolist() == [6 * cost(SMALL).at(kept)] * 2
    assert with_crops.kept.tolist() == [kept] * 2
    assert not np.isnan(over_time.recall).any()
    assert np.isnan(with_crops.recall).all()  # of the outer crops nobody knows what moves


def test_the_selector_runs_once_per_view_and_the_extractor_once_per_sparsity(
    store: DataSet, model: LookWhen
) -> None:
    seen = {"selector": 0, "extractor": 0}

    def count(name: str) -> Any:
        def hook(_module: object, given: tuple[torch.Tensor, ...], _result: object) -> None:
            seen[name] += len(given[0])

        return hook

    handles = [
        part.register_forward_hook(count(name))
        for name, part in (("selector", model.selector), ("extractor", model.extractor))
    ]
    measure(LookWhenMethod(model, [0.0, 0.5, 0.9]), store, views=Views(2, 1), batch=4)
    for handle in handles:
        handle.remove()
    assert seen == {"selector": 2 * CLIPS, "extractor": 3 * 2 * CLIPS}


def test_recall_is_the_share_of_moving_tokens_that_were_kept(
    clips: Path, store: DataSet, model: LookWhen
) -> None:
    views = StoreViews(clips, SMALL, seed=0)
    dense, sparse = measure(LookWhenMethod(model, [0.0, 0.9]), store).outcomes
    kept = tokens_to_keep(0.9, SMALL.tokens)
    for clip in range(CLIPS):
        sample = views[clip, -1]
        with torch.inference_mode():
            scores, _ = model.selector(sample.clip_small[None])
        chosen = scores[0].topk(kept).indices
        moving = sample.moving.sum().item()
        if not moving:  # nothing moves, or the camera alone
            assert LABELS[sample.label] in ("nothing moves", "only the camera moves")
            assert np.isnan([dense.recall[clip], sparse.recall[clip]]).all()
            continue
        assert dense.recall[clip] == 1
        assert sparse.recall[clip] == pytest.approx(sample.moving[chosen].sum().item() / moving)
    by = {
        name: measure(LookWhenMethod(model, [0.9], by=name), store).outcomes[0]
        for name in ("target", "random")
    }
    assert np.nanmean(by["target"].recall) > 0.6
    assert np.nanmean(by["random"].recall) == pytest.approx(0.1, abs=0.06)
    again = measure(LookWhenMethod(model, [0.9], by="random"), store.subset(range(3)), batch=1)
    assert again.outcomes[0].recall.tolist() == by["random"].recall[:3].tolist()


def test_what_a_method_refuses(model: LookWhen, store: DataSet) -> None:
    with pytest.raises(ValueError, match="select by one of"):
        LookWhenMethod(model, [0.9], by="luck")
    with pytest.raises(ValueError, match="different sparsities"):
        LookWhenMethod(model, [0.9, 0.9])
    with pytest.raises(ValueError, match="different sparsities"):
        LookWhenMethod(model, [])


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (VerbNoun(3, 2), [(i % 3, i % 2) for i in range(CLIPS)]),
        (MultiLabel(5), [(i % 5, (i + 1) % 5)[: i % 3] for i in range(CLIPS)]),
    ],
)
def test_other_tasks_are_measured_by_their_own_figures(
    clips: Path, task: VerbNoun | MultiLabel, labels: list[tuple[int, ...]], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    names = tuple(f"class {i}" for i in range(5))
    model = LookWhen(ModelConfig(**{**config_fields(), "labels": names})).eval()
    loud(model)
    entries = tuple(Entry(clips, own, stored=i) for i, own in enumerate(labels))
    dataset = DataSet("other", entries, names, task)
    measured = measure(LookWhenMethod(model, [0.5]), dataset)
    result = result_of(measured.outcomes[0], dataset, measured.entries)
    targets = torch.stack([task.target(own) for own in labels])
    expected = task.measure(torch.from_numpy(measured.outcomes[0].probabilities), targets)
    assert {name: figure.value for name, figure in result.figures.items()} == expected
    assert task.headline in expected
    assert result.labels is None

    said = tmp_path / "said.csv"
    write_predictions(said, measured, dataset, [f"clip {i}" for i in range(CLIPS)])
    with said.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip"] for row in rows] == [f"clip {i}" for i in range(CLIPS)]
    if isinstance(task, MultiLabel):
        assert [row["target"] for row in rows[:3]] == ["", "class 1", "class 2; class 3"]
        with pytest.raises(PredictionsError, match="cannot be pooled"):
            read_predictions([said])
        return
    assert rows[4]["target"] == "class 1 / class 3"
    scores = measured.outcomes[0].probabilities[4]
    assert float(rows[4]["score"]) == pytest.approx(scores[:3].max() * scores[3:].max(), rel=1e-5)
    (pooled,), _, names = read_predictions([said])
    assert {name: figure.value for name, figure in pooled.figures.items()} == expected
    assert names == ()


def config_fields() -> dict[str, Any]:
    return {name: getattr(SMALL, name) for name in SMALL.__slots__}


def test_baselines_are_measured_as_lookwhen_is(
    clips: Path, store: DataSet, backbone: DenseViT
) -> None:
    texts = ["dense", "random:0.9", "rlt:0.2", "tome:100", "vid-tldr:120"]
    method = BaselineMethod([parse_baseline(text, backbone) for text in texts])
    measured = measure(method, store, batch=3, views=Views(2, 1))
    dense, random, rlt, tome, tldr = measured.outcomes
    for clip in range(CLIPS):
        views = view_of(clips, clip, 2)
        with torch.inference_mode():
            each = [backbone_answer(backbone, view) for view in views]
        np.testing.assert_allclose(dense.probabilities[clip], torch.stack(each).mean(0), atol=1e-5)
        # What run-length tokenization costs depends on the clip, and on the view.
        changed = [RLT(backbone, 0.2).changed(view)[0].numpy() for view in views]
        kept = [one.sum() for one in changed]
        assert rlt.kept[clip] == np.mean(kept)
        stored = ClipStore(clips)[clip]
        moving = [
            moving_tokens(stored.mask[chosen], SMALL).reshape(-1)
            for chosen in frame_indices(stored.frames, SMALL.frames, 2)
        ]
        found = [c[m].mean() for c, m in zip(changed, moving, strict=True) if m.any()]
        assert rlt.recall[clip] == pytest.approx(np.mean(found) if found else np.nan, nan_ok=True)
        alone = RLT(backbone, 0.2)
        assert rlt.macs[clip] == sum(alone.macs(alone.counts(int(k))) for k in kept)
    assert len(set(rlt.macs.tolist())) > 1
    assert np.nanmin(dense.recall) == 1
    assert np.nanmean(random.recall) == pytest.approx(0.1, abs=0.06)
    assert np.isnan(tome.recall).all()
    assert np.isnan(tldr.recall).all()
    for cheaper in (random, rlt, tome, tldr):
        assert cheaper.macs.mean() < dense.macs.mean()
    assert [s.name for s in method.settings] == ["dense", "0.9", "tau 0.2", "r 100", "r 120"]


def backbone_answer(backbone: DenseViT, view: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(SMALL.tokens)[None]
    x = backbone.embed(patchify(view, SMALL.patch), positions)
    for block in backbone.blocks:
        x = block(x, None)
    return backbone.classify(x, None)[0].softmax(0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("magic", "expected one of dense"),
        ("dense:1", "expected one of dense"),
        ("random:1.0", "sparsity must lie in"),
        ("random", "could not convert"),
        ("tome:9999", "can merge"),
        ("vid-tldr:a,b", "invalid literal"),
    ],
)
def test_a_baseline_that_cannot_be_is_named(text: str, why: str, backbone: DenseViT) -> None:
    with pytest.raises(ValueError, match=f"{text}.*{why}"):
        parse_baseline(text, backbone)


def test_baselines_must_differ_and_share_their_backbone(backbone: DenseViT) -> None:
    dense = parse_baseline("dense", backbone)
    with pytest.raises(ValueError, match="different baselines"):
        BaselineMethod([dense, dense])
    with pytest.raises(ValueError, match="one backbone"):
        BaselineMethod([dense, parse_baseline("random:0.5", DenseViT(DENSE))])


def test_unreadable_clips_are_left_out_counted_and_named(folder: Path, model: LookWhen) -> None:
    dataset = evaluation.fit_labels(read_dataset("folders", folder), LABELS)
    with pytest.raises(TooManyLost, match=r"1 of 5 clips(.|\n)*torn\.mp4"):
        measure(LookWhenMethod(model, [0.9]), dataset)
    measured = measure(LookWhenMethod(model, [0.9]), dataset, lost_share=0.5, batch=2)
    assert measured.entries.tolist() == [0, 1, 2, 3]
    assert len(measured.outcomes[0].probabilities) == 4
    assert [Path(name).name for name in measured.lost] == ["torn.mp4"]
    with pytest.raises(ValueError, match="no clips"):
        measure(LookWhenMethod(model, [0.9]), dataset.subset([4]), lost_share=1.0)


def test_answers_that_are_no_numbers_are_no_result(store: DataSet) -> None:
    broken = LookWhen(SMALL)
    with torch.no_grad():
        broken.head.weight.fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"answers.* with what is not a number"):
        measure(LookWhenMethod(broken, [0.9]), store.subset([0]))


def test_classes_are_numbered_as_the_network_numbers_them(folder: Path) -> None:
    dataset = read_dataset("folders", folder)
    assert [entry.labels for entry in dataset.entries] == [(0,)] * 2 + [(1,)] * 3
    shuffled = ("unseen", *reversed(dataset.labels))
    fitted = evaluation.fit_labels(dataset, shuffled)
    assert fitted.labels == shuffled
    for entry, own in zip(fitted.entries, dataset.entries, strict=True):
        assert shuffled[entry.labels[0]] == dataset.labels[own.labels[0]]
    with pytest.raises(DataSetError, match="does not know the class"):
        evaluation.fit_labels(dataset, ("unseen", dataset.labels[0]))
    pairs = DataSet("pairs", (Entry(folder, (0, 1)),), ("a", "b", "c"), VerbNoun(1, 2))
    with pytest.raises(DataSetError, match="not numbered as the network's"):
        evaluation.fit_labels(pairs, ("b", "a", "c"))


def test_a_sample_of_a_folder_has_more_than_its_first_class(store: DataSet) -> None:
    entries = tuple(Entry(Path(f"{i}.mp4"), (i // 50,)) for i in range(100))
    drawn = evaluation.some_clips(DataSet("sorted", entries, ("a", "b"), TopOne(2)), 20)
    assert len(drawn) == 20
    assert {entry.labels for entry in drawn.entries} == {(0,), (1,)}
    assert drawn == evaluation.some_clips(DataSet("sorted", entries, ("a", "b"), TopOne(2)), 20)
    assert evaluation.some_clips(store, 3).entries == store.entries[:3]
    assert evaluation.some_clips(store, 99) is store


def run(*arguments: object) -> Result:
    return CliRunner().invoke(evaluation.main, [str(a) for a in arguments], catch_exceptions=False)


def test_the_report_of_a_store_goes_into_a_bundle(
    clips: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation.json"
    result = run(
        checkpoint, clips, out, "--sparsity", 0, "--sparsity", 0.9, "--clips", 6, "--workers", 0
    )
    assert result.exit_code == 0, result.output
    assert "6 clips" in result.output
    assert "against sparsity 0" in result.output
    assert "weakest classes" in result.output
    assert "most confused" in result.output
    report = json.loads(out.read_text())
    assert report["data"]["seed"] == 0
    assert report["labels"] == list(LABELS)
    assert report["selected_by"] == "selector"
    assert report["headline"] == "top1"
    assert report["excluded"] == {}
    assert str(clips) not in out.read_text()
    dense, sparse = report["points"]
    for point in (dense, sparse):
        confusion = np.array(point["confusion"])
        assert confusion.sum() == point["clips"] == 6
        assert point["top1"] == confusion.trace() / 6
        low, high = point["intervals"]["top1"]
        assert low <= point["top1"] <= high
        assert len(point["per_class"]) == len(LABELS)
    assert (dense["sparsity"], dense["kept"], dense["recall"]) == (0, SMALL.tokens, 1)
    assert dense["against"] is None
    value, low, high = sparse["differences"]["top1"]
    assert value == pytest.approx(sparse["top1"] - dense["top1"])
    assert low <= value <= high
    (first, second) = read_accuracy(out, checkpoint)
    assert (first.sparsity, first.clips, first.recall) == (0, 6, 1)
    assert (second.sparsity, second.top1) == (0.9, sparse["top1"])


def test_a_folder_is_measured_predicted_pooled_and_plotted(
    folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out, said, picture = tmp_path / "out.json", tmp_path / "said.csv", tmp_path / "plot.svg"
    result = run(
        checkpoint, "folders", folder, out, "--sparsity", 0.5, "--sparsity", 0.9, "--workers", 0,
        "--lost-share", 0.3, "--views", "1x3", "--predictions", said, "--plot", picture,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "1 of 5 clips cannot be read and are excluded" in result.output
    report = json.loads(out.read_text())
    (excluded,) = report["excluded"]
    assert excluded == f"{LABELS[1]}/torn.mp4"
    assert report["clips"] == 4
    assert report["points"][0]["recall"] is None
    assert str(folder) not in out.read_text() + said.read_text()
    assert "top-1 accuracy" in picture.read_text()

    with said.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    assert [row["clip"] for row in rows[:4]] == [
        f"{label}/{i}.mp4" for label in LABELS[:2] for i in (0, 1)
    ]
    for row in rows:
        assert row["top1"] == str(int(row["target"] == row["predicted"]))
        assert 0 < float(row["score"]) <= 1
    pooled = tmp_path / "pooled.json"
    result = CliRunner().invoke(together, ["pool", str(said), "--out", str(pooled)])
    assert result.exit_code == 0, result.output
    for ours, theirs in zip(
        json.loads(pooled.read_text())["points"], report["points"], strict=True
    ):
        for name in ("setting", "sparsity", "clips", "top1", "top5", "intervals", "differences"):
            assert ours[name] == theirs[name]


def test_what_the_command_refuses(
    folder: Path, clips: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    for arguments, why in (
        ([tmp_path / "none", clips, out], "no such file"),
        ([checkpoint, tmp_path, out], "is not a store of clips"),
        ([checkpoint, "potatoes", folder, out], "KIND of"),
        ([checkpoint, clips, out, "--views", "2x2"], "spatial views are 1 or 3"),
        ([checkpoint, clips, out, "--device", "abacus"], "abacus"),
        ([checkpoint, clips, out, "--baseline", "dense"], "no local teacher"),
        ([checkpoint, clips, out, "--clips", 1, "--against", "0.3"], "no setting '0.3'"),
    ):
        result = run(*arguments, "--workers", 0, "--sparsity", 0.9)
        assert result.exit_code, arguments
        assert why in result.output, arguments
        assert not out.exists()


@pytest.mark.slow
def test_two_processes_measure_what_one_does(clips: Path, checkpoint: Path, tmp_path: Path) -> None:
    chosen = ["--clips", "5", "--workers", "0", "--sparsity", "0.9", "--batch", "1"]
    alone, out = tmp_path / "alone.json", tmp_path / "out.json"
    said_alone, said = tmp_path / "alone.csv", tmp_path / "said.csv"
    result = run(checkpoint, clips, alone, *chosen, "--predictions", said_alone)
    assert result.exit_code == 0, result.output
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "training.evaluate", str(checkpoint), str(clips), str(out), *chosen]
    subprocess.run(
        [*command, "--predictions", str(said)],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert json.loads(out.read_text()) == json.loads(alone.read_text())
    assert said.read_text() == said_alone.read_text()
