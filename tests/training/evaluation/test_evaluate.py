"""Evaluation over real clips: what is measured, and what it costs."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rendered import decode_view
from small_networks import CLIPS, DENSE, SMALL, loud
from torchcodec.decoders import VideoDecoder

from bundle.geometry import downscale
from bundle.sampling import Views, frame_indices
from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.config import ModelConfig
from model.layers import patchify
from model.macs import cost
from training.baselines import RLT, DenseViT
from training.datasets import DataSet, Entry, MultiLabel, TooManyLost, VerbNoun, read_dataset
from training.datasets.stores import moving_tokens
from training.evaluation import BaselineMethod, LookWhenMethod, measure, parse_baseline, result_of
from training.evaluation.clips import fit_labels
from training.evaluation.predictions import PredictionsError, read_predictions, write_predictions
from training.evaluation.truth import MovingTokens
from training.moving_things.labels import LABELS
from training.moving_things.store import ClipStore
from video.framing import Frame, cut_views

pytestmark = pytest.mark.slow


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
        cut = [cut_views(Frame(frame[None]), SMALL.size, SMALL.size, 3) for frame in frames]
        crops.append(torch.stack(cut, dim=1))
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
    truth = MovingTokens(SMALL, Views(1, 1))
    dense, sparse = measure(LookWhenMethod(model, [0.0, 0.9]), store).outcomes
    kept = tokens_to_keep(0.9, SMALL.tokens)
    for clip in range(CLIPS):
        (view,) = view_of(clips, clip)
        (where,) = truth.of(store.entries[clip])
        with torch.inference_mode():
            scores, _ = model.selector(torch.from_numpy(downscale(view.numpy())))
        chosen = scores[0].topk(kept).indices
        moving = where.sum().item()
        if not moving:  # nothing moves, or the camera alone
            assert LABELS[store.entries[clip].labels[0]] in (
                "nothing moves",
                "only the camera moves",
            )
            assert np.isnan([dense.recall[clip], sparse.recall[clip]]).all()
            continue
        assert dense.recall[clip] == 1
        assert sparse.recall[clip] == pytest.approx(where[chosen].sum().item() / moving)
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
    entries = tuple(Entry(clips, own, stored=i, store=ClipStore) for i, own in enumerate(labels))
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
    dataset = fit_labels(read_dataset("folders", folder), LABELS)
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
