"""Benchmarks that run a bundle's graphs themselves, on one of another kind than the built-in."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import gpu
from benchmarks.cpu.accuracy import measure
from benchmarks.cpu.engines import BASE, Engine
from benchmarks.serving.hosted import Classifier, _session
from bundle.reader import Bundle, read_bundle
from bundle.tokens import tokens_to_keep
from export.network_bundle import UNTUNED, export_network, network_provenance, write_network_bundle
from networks.building import build_network
from networks.config import get_network_config
from service import engine as service
from training.moving_things.labels import LABELS
from training.moving_things.store import ClipStore, write_store

pytestmark = pytest.mark.long  # an export takes seconds


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Tubelets of two frames, no context, weights in a file of their own."""
    config = dataclasses.replace(
        get_network_config("videomae_b16"), frames=4, size=32, short_side=32, width=48, depth=1,
        heads=3, mlp_width=96, video_width=48, labels=LABELS,
    )  # fmt: skip
    torch.manual_seed(0)
    network = build_network(config).eval()
    out = tmp_path_factory.mktemp("bundles") / "videomae"
    with export_network(network, "group", largest_whole_bytes=1000) as graphs:
        write_network_bundle(
            out, network, "group", graphs, name="small", version="1", sparsity=UNTUNED,
            provenance=network_provenance(network, recipe="random", data="none", source=None),
            licence=None,
        )  # fmt: skip
    return read_bundle(out)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, 4, 0, workers=0)
    return path


def test_rivals_host_it(imported: Bundle, store: Path) -> None:
    hosted = Classifier(imported.path)
    frames = [hosted.decode(ClipStore(store).video(number)) for number in (0, 1)]
    labels = hosted.classify(frames, [0.0, 0.5])
    alone = [hosted.classify([one], [s])[0] for one, s in zip(frames, (0.0, 0.5), strict=True)]
    assert labels == alone
    assert set(labels) <= set(LABELS)


def test_a_gpus_answers_can_be_compared(imported: Bundle) -> None:
    engine = service.Engine(
        imported,
        service.EngineOptions(intra_op_threads=1, warm_up_seconds=0, calibration_seconds=0),
    )
    clips = gpu.smooth_clips(imported, 2)
    (row,) = gpu.parity(imported.manifest, engine, engine, clips, [0.5])
    assert row["logits"] == 0
    assert row["same_selection"] == 1
    (rate,) = gpu.throughput(engine, imported, [1], [0.5], runs=3)
    assert rate["clips_per_second"] > 0
    engine.close()


def test_accuracy_is_counted(imported: Bundle, store: Path) -> None:
    selector = _session(imported.selector, 1)
    extractor = _session(imported.extractor, 1, imported.extractor_weights)
    kept: list[int] = []

    def extract(feeds: dict[str, Any]) -> list[Any]:
        kept.append(feeds["patches"].shape[1])
        return list(extractor.run(["logits"], feeds))

    engine = Engine(BASE, lambda feeds: list(selector.run(["scores"], feeds)), extract)
    found = measure({BASE.name: engine}, BASE.name, imported.manifest, store, 3, (0.0, 0.5))
    assert kept == 3 * [tokens_to_keep(s, 8) for s in (0.0, 0.5)]
    assert found[BASE.name]["0.5"]["clips"] == 3
    assert found[BASE.name]["0"]["agreement"]["share"] == 1.0


def test_noise_fills_any_view(imported: Bundle) -> None:
    odd = imported.manifest.geometry.model_copy(update={"size": 30})
    bundle = dataclasses.replace(
        imported, manifest=imported.manifest.model_copy(update={"geometry": odd})
    )
    clips = gpu.smooth_clips(bundle, 1)
    assert clips.shape == (1, 4, 30, 30, 3)
    assert clips.dtype == np.uint8
