"""``lookwhen import``, from files in the published formats with random weights to answers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hub_server import COMMIT, serve_repository
from numpy.typing import NDArray
from safetensors.torch import save_file
from service_server import Server

from benchmarks.published_keys import (
    Shapes,
    filled,
    fluxvit,
    internvideo2,
    lookwhen,
    nested,
    videomae,
    videomae_transformers,
    vjepa2,
    vjepa2_classifiers,
    vjepa2_original,
)
from bundle.geometry import downscale, gather_patches
from bundle.reader import Bundle, read_bundle
from bundle.tokens import select_top_k, tokens_to_keep
from export.parity import Sessions
from lookwhen.importing import import_command
from networks.checkpoint import load_network
from networks.labels import class_list
from training.datasets.lists import read_list
from training.evaluation.bundles import decode, measure_bundle

ROOT = Path(__file__).parents[3]

SMALL = {"image_size": 32, "num_attention_heads": 4}


def write_source(folder: Path, shapes: Shapes, config: dict[str, Any], *, pickled: bool) -> Path:
    """A folder as it is published: weights, and the configuration beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = filled(shapes)
    if pickled:
        torch.save({"module": weights, "epoch": 3}, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(import_command, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.output.split())


def ask(bundle: Bundle, frames: NDArray[np.uint8], sparsity: float) -> NDArray[np.float32]:
    """Logits as a service computes them."""
    geometry, smaller = bundle.manifest.geometry, bundle.manifest.selector.downscale
    sessions = Sessions(bundle.selector, bundle.extractor)
    (scores,) = sessions.select(downscale(frames, smaller.time, smaller.space))
    kept = tokens_to_keep(sparsity, geometry.tokens)
    positions = select_top_k(scores, kept)
    patches = gather_patches(frames, positions, geometry.patch, geometry.tubelet)
    logits, _ = sessions.extract(patches, positions, np.full(len(frames), kept, np.int64))
    return logits


def some_frames(bundle: Bundle) -> NDArray[np.uint8]:
    geometry = bundle.manifest.geometry
    shape = (2, geometry.frames, geometry.size, geometry.size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def umt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A UMT of 8 frames, 32 tokens and a head of 710 rows, in the authors' form."""
    folder = tmp_path_factory.mktemp("sources") / "umt"
    shapes = videomae(32, 1, tubelet=1, classes=710)
    return write_source(folder, shapes, SMALL, pickled=True)


@pytest.fixture(scope="module")
def imported(umt: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Its bundle, which also lies beside its checkpoint; and what the command said."""
    out = tmp_path_factory.mktemp("bundles") / "umt"
    code, output = run(
        umt, out, "--accept-licence", "--checkpoint", out.parent / "umt.safetensors",
        "--selector", "change", "--name", "mine",
    )  # fmt: skip
    assert code == 0, output
    return out, output


@pytest.mark.slow
def test_a_checkpoint_becomes_a_bundle(imported: tuple[Path, str]) -> None:
    out, said = imported
    assert "licence of the weights: not stated (use not stated)" in said
    assert "comparisons with torch agree" in said
    bundle = read_bundle(out)
    manifest = bundle.manifest
    assert manifest.name == "mine"
    assert tuple(manifest.labels) == class_list("kinetics-400")  # of 710 rows
    assert manifest.accuracy == []
    assert (manifest.sparsity.highest, manifest.sparsity.basis) == (0.6, "untuned")
    assert manifest.selector.kind == "change"
    assert manifest.licence is not None
    assert "Unmasked Teacher" in manifest.licence.attribution
    source = manifest.provenance.source
    assert source is not None
    assert (source.place, source.revision, source.file) == ("umt", None, "pytorch_model.bin")
    frames = some_frames(bundle)
    answers = [ask(bundle, frames, sparsity) for sparsity in (0.0, 0.3, 0.5)]
    network, facts = load_network(out.parent / "umt.safetensors")
    assert facts["source"]["sha256"] == source.sha256
    every = torch.arange(network.config.tokens).expand(2, -1)
    with torch.no_grad():
        dense = network(network.tubelets(torch.from_numpy(frames)), every).logits
    np.testing.assert_allclose(answers[0], dense.numpy(), atol=1e-4)
    assert all(np.isfinite(logits).all() for logits in answers)
    assert not np.allclose(answers[0], answers[2])


def make_clip(path: Path, source: str) -> None:
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i",
         f"{source}=size=64x48:rate=10:duration=2", "-pix_fmt", "yuv420p", str(path)],
        check=True,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.slow
def test_it_is_served_and_answers_with_the_classes_names(
    imported: tuple[Path, str], tmp_path: Path
) -> None:
    make_clip(tmp_path / "clip.mp4", "testsrc2")
    names = class_list("kinetics-400")
    server = Server(imported[0], tmp_path / "log")
    try:
        server.wait_until_ready()
        answers = []
        for sparsity in (0.0, 0.3, 0.5):
            answer = server.classify(tmp_path / "clip.mp4", sparsity=sparsity, top=400)
            assert answer.status_code == 200, answer.text
            document = answer.json()
            assert {label["label"] for label in document["labels"]} == set(names)
            assert document["tokens"]["total"] == 32
            assert document["tokens"]["kept"] == tokens_to_keep(document["sparsity"]["used"], 32)
            answers.append(document)
    finally:
        server.stop()
    bundle = read_bundle(imported[0])
    frames = decode(tmp_path / "clip.mp4", bundle.manifest)
    logits = ask(bundle, frames, answers[0]["sparsity"]["used"])[0].astype(np.float64)
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    served = {label["label"]: label["score"] for label in answers[0]["labels"]}
    np.testing.assert_allclose([served[name] for name in names], shares, atol=1e-5)


@pytest.mark.slow
def test_accuracy_is_measured_as_the_bundle_samples(
    imported: tuple[Path, str], tmp_path: Path
) -> None:
    bundle = read_bundle(imported[0])
    for name in ("testsrc2", "testsrc", "smptebars"):
        make_clip(tmp_path / f"{name}.mp4", name)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    lines = ["testsrc2.mp4 0", "testsrc.mp4 1", "smptebars.mp4 2", "broken.mp4 3"]
    (tmp_path / "val.csv").write_text("\n".join(lines))
    clips = read_list(tmp_path / "val.csv", labels=bundle.manifest.labels)
    points, rivals = measure_bundle(bundle, clips, lost_share=0.3)
    assert [point.sparsity for point in points] == [0.0, 0.3, 0.5, 0.7, 0.9]
    assert all(point.clips == 3 for point in points)
    assert [rival.name for rival in rivals] == ["4 of 8 frames, dense", "2 of 8 frames, dense"]
    macs = bundle.manifest.macs
    assert rivals[0].macs == macs.at(16) - macs.selector
    # what is said of a clip becomes right when its label is what the bundle says at sparsity 0
    said = [_said(bundle, tmp_path / f"{name}.mp4") for name in ("testsrc2", "testsrc")]
    (tmp_path / "val.csv").write_text(f"testsrc2.mp4 {said[0]}\ntestsrc.mp4 {said[1]}")
    clips = read_list(tmp_path / "val.csv", labels=bundle.manifest.labels)
    points, _ = measure_bundle(bundle, clips, lost_share=0)
    assert (points[0].top1, points[0].top5) == (1.0, 1.0)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "val.csv").write_text("pictures 0")
    pictures = read_list(tmp_path / "val.csv")
    with pytest.raises(ValueError, match="no file of its own"):
        measure_bundle(bundle, pictures, lost_share=0)


def _said(bundle: Bundle, clip: Path) -> int:
    return int(ask(bundle, decode(clip, bundle.manifest), 0.0)[0].argmax())


FAMILIES: dict[str, Callable[[], tuple[Shapes, dict[str, Any]]]] = {
    "videomae": lambda: (videomae(32, 1), {**SMALL}),
    "videomae of the hub": lambda: (
        videomae_transformers(32, 1), {**SMALL, "num_frames": 16, "tubelet_size": 2},
    ),
    "internvideo2": lambda: (
        internvideo2(32, 1, 128, places=2 * 4, out=768, patch=14),
        {"image_size": 28, "num_attention_heads": 4},
    ),
    "vjepa2": lambda: (
        vjepa2(32, 1, 128),
        {"crop_size": 32, "frames_per_clip": 4, "num_attention_heads": 4},
    ),
    "fluxvit": lambda: (
        fluxvit(32, 1), {"num_attention_heads": 4},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=() if name == "videomae" else pytest.mark.long) for name in FAMILIES],
)
def test_every_family_goes_the_whole_way(family: str, tmp_path: Path) -> None:
    shapes, config = FAMILIES[family]()
    source = write_source(tmp_path / "source", shapes, config, pickled=False)
    code, output = run(source, tmp_path / "out", "--accept-licence")
    assert code == 0, output
    bundle = read_bundle(tmp_path / "out")
    frames = some_frames(bundle)
    for sparsity in (0.0, 0.3, 0.5):
        logits = ask(bundle, frames, sparsity)
        assert logits.shape == (2, len(bundle.manifest.labels))
        assert np.isfinite(logits).all()


def run_process(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "lookwhen", "import", *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=600,
        env={**os.environ, "COLUMNS": "300", **variables},
    )  # fmt: skip


@pytest.mark.long
def test_a_repository_of_a_hub_becomes_a_bundle_as_transformers_answers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.VideoMAEConfig(
        image_size=32, num_frames=4, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=128, initializer_range=0.5, num_labels=3,
        id2label={0: "walk", 1: "run", 2: "jump"},
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.VideoMAEForVideoClassification(config).eval()
    folder = tmp_path / "repository"
    model.save_pretrained(folder)
    preprocessor = {
        "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "size": {"shortest_edge": 40},
        "crop_size": {"height": 32, "width": 32}, "do_center_crop": True,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    with serve_repository("somebody/videomae", folder) as (url, asked):
        done = run_process(
            "somebody/videomae", tmp_path / "out", HF_ENDPOINT=url, HF_HOME=str(tmp_path / "cache")
        )
        assert done.returncode == 0, done.stderr
    assert f"GET /somebody/videomae/resolve/{COMMIT}/model.safetensors" in asked
    bundle = read_bundle(tmp_path / "out")
    manifest = bundle.manifest
    source = manifest.provenance.source
    assert source is not None
    assert (source.place, source.revision) == ("somebody/videomae", COMMIT)
    assert manifest.licence is not None
    assert (manifest.licence.name, manifest.licence.commercial) == ("Apache-2.0", True)
    assert manifest.labels == ["walk", "run", "jump"]
    assert manifest.normalisation.mean == [0.5, 0.4, 0.3]
    assert (manifest.sampling.short_side, manifest.geometry.size) == (40, 32)
    frames = some_frames(bundle)
    scaled = torch.from_numpy(frames).permute(0, 1, 4, 2, 3) / 255
    mean, std = (
        torch.tensor(preprocessor[name])[:, None, None] for name in ("image_mean", "image_std")
    )
    with torch.no_grad():
        expected = model(pixel_values=(scaled - mean) / std).logits
    np.testing.assert_allclose(ask(bundle, frames, 0.0), expected.numpy(), atol=1e-4)


@pytest.mark.slow
def test_a_dry_run_lists_every_key_and_writes_nothing(umt: Path) -> None:
    before = sorted(umt.iterdir())
    code, output = run(umt, "--dry-run")
    assert code == 0, output
    assert sorted(umt.iterdir()) == before
    for key in ("patch_embed.proj.weight", "blocks.0.attn.q_bias", "head.weight"):
        assert key in output
    assert "embedding.projection.weight" in output
    assert "8 frames of 32 pixels, 32 tokens, 400 labels" in output


def test_what_is_no_known_network_is_listed_and_refused(tmp_path: Path) -> None:
    save_file({"selector.weird": torch.zeros(2, 3)}, tmp_path / "lookwhen.safetensors")
    code, output = run(tmp_path / "lookwhen.safetensors", "--dry-run")
    assert code == 1
    assert "selector.weird [2, 3] unknown" in output
    assert "its keys are of no format that is known here" in output


def test_lookwhens_own_file_is_listed_with_guesses_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shapes = lookwhen("selector.", "extractor.", 8)
    zeros = {key: torch.zeros(shape) for key, shape in shapes.items()}
    save_file(zeros, tmp_path / "lookwhen_b16.safetensors")
    code, output = run(tmp_path / "lookwhen_b16.safetensors", "--dry-run")
    assert code == 1
    said = " ".join(output.split())
    assert "extractor.blocks.11.attn.qkv.weight (a guess by shape and name)" in said
    assert "frames_head.2.weight [128, 32] the head of the pre-training" in said
    assert "probably LookWhen's own published weights" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda w: w.pop("fc_norm.bias"), "the tensor fc_norm.bias is missing"),
        (
            lambda w: w.update({"extra.weight": torch.zeros(2)}),
            "the tensor extra.weight is unknown",
        ),
        (lambda w: w.update({"head.bias": torch.zeros(9)}), "the tensor head.bias is [9]"),
        (lambda w: w["head.bias"].fill_(torch.nan), "head.bias holds infinities or NaN"),
    ],
)
def test_keys_that_do_not_fit_are_one_sentence(
    change: Callable[[dict[str, torch.Tensor]], object], why: str, tmp_path: Path
) -> None:
    weights = filled(videomae(32, 1, tubelet=1))
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    code, output = run(tmp_path, tmp_path / "out", "--accept-licence")
    assert code == 1
    assert why in output
    assert "Traceback" not in output
    assert not (tmp_path / "out").exists()


def test_a_licence_has_to_be_accepted(tmp_path: Path) -> None:
    source = write_source(tmp_path / "s", videomae_transformers(32, 1), SMALL, pickled=False)
    code, output = run(source, tmp_path / "out")
    assert code == 1
    assert "licence of the weights: CC-BY-NC-4.0 (no commercial use)" in output
    assert "forbids commercial use; if yours is none, accept it with --accept-licence" in output
    assert not (tmp_path / "out").exists()


def test_labels_are_named_by_a_list_or_a_file(tmp_path: Path) -> None:
    source = write_source(tmp_path / "s", videomae(32, 1, tubelet=1), SMALL, pickled=False)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"name {i}" for i in range(400)))
    out = tmp_path / "net.safetensors"
    code, output = run(source, "--accept-licence", "--labels", names, "--checkpoint", out)
    assert code == 0, output
    assert load_network(out)[0].config.labels[399] == "name 399"
    names.write_text("walk\nrun")
    for labels, why in (
        (names, "names 2 classes, and the head has 400"),
        ("kinetics-600", "names 600 classes, and the head has 400"),
        ("imagenet", "neither a file of text nor one of the lists kinetics-400"),
    ):
        code, output = run(source, "--accept-licence", "--labels", labels, "--checkpoint", out)
        assert code == 1
        assert why in output


@pytest.mark.parametrize(
    ("preprocessor", "why"),
    [
        ({"rescale_factor": 1 / 127.5}, "does not scale pixels by 1/255"),
        ({"do_rescale": False}, "does not scale pixels by 1/255"),
        ({"crop_size": {"height": 224, "width": 224}}, "crops 224 pixels, and the network's grid"),
        ({"do_center_crop": False, "size": {"height": 64, "width": 48}}, "resizes to"),
        ({"image_mean": [0.5]}, "image_mean is not three numbers"),
    ],
)
def test_preprocessing_that_no_bundle_does_is_refused(
    preprocessor: dict[str, Any], why: str, tmp_path: Path
) -> None:
    shapes = videomae(32, 1, tubelet=1)
    source = write_source(tmp_path / "s", shapes, SMALL, pickled=False)
    (source / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    code, output = run(source, tmp_path / "out", "--accept-licence")
    assert code == 1
    assert why in output


def test_a_network_without_a_head_is_for_training(tmp_path: Path) -> None:
    shapes = {k: s for k, s in vjepa2(32, 1, 128).items() if k.startswith("vjepa2.")}
    config = {"crop_size": 32, "frames_per_clip": 4, "num_attention_heads": 4}
    source = write_source(tmp_path / "s", shapes, config, pickled=False)
    checkpoint = tmp_path / "net.safetensors"
    code, output = run(source, tmp_path / "out", "--accept-licence", "--checkpoint", checkpoint)
    assert code == 1
    assert "has no classification head" in output
    assert load_network(checkpoint)[0].config.labels == ()
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_go_together(umt: Path) -> None:
    for arguments, why in (
        ((), "Missing argument 'OUT'; only --dry-run and --checkpoint need none"),
        (("--dry-run", "--measure", umt), "--measure is for a bundle that is written"),
    ):
        code, output = run(umt, *arguments)
        assert code == 2
        assert why in output


@pytest.mark.long
def test_vjepa2s_own_files_become_a_bundle_together(tmp_path: Path) -> None:
    folder = tmp_path / "vjepa2"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"heads": 4}))
    encoder = nested(filled(vjepa2_original(32, 1, 64)))
    torch.save({**encoder, "epoch": 90, "opt": {"state": {0: torch.zeros(3)}}}, folder / "vitl.pt")
    head = filled(vjepa2_classifiers(32, 174, 2), 1)
    (classifier,) = nested(head).values()
    torch.save({"classifiers": [classifier], "opt": [{}], "epoch": 20}, tmp_path / "ssv2.pt")
    out = tmp_path / "out"
    code, said = run(folder, "--dry-run", "--frames", "4", "--size", "32")
    assert code == 0, said
    assert "V-JEPA 2 in its authors' keys: vjepa2_32x1, 4 frames of 32 pixels" in said
    code, said = run(
        folder, out, "--classifier", tmp_path / "ssv2.pt", "--frames", "4", "--size", "32",
        "--accept-licence",
    )  # fmt: skip
    assert code == 0, said
    manifest = read_bundle(out).manifest
    assert tuple(manifest.labels) == class_list("something-something-v2")
    assert manifest.provenance.source is not None
    assert manifest.provenance.source.file == "vitl.pt and ssv2.pt"
    assert (manifest.geometry.frames, manifest.geometry.tokens) == (4, 8)

    code, said = run(tmp_path / "ssv2.pt", out, "--accept-licence")
    assert code == 1
    assert "ssv2.pt: these are V-JEPA 2's classifiers alone" in said
    code, said = run(folder, tmp_path / "no", "--accept-licence")
    assert "vitl.pt: has no classification head" in said
    assert "--classifier FILE takes a head from a file of its own" in said
    save_file(head, tmp_path / "ssv2.safetensors")
    for given, text in (
        ("none.pt", "--classifier: there is no file"),
        ("ssv2.safetensors", "of vitl.pt and ssv2.safetensors one is a pickle"),
    ):
        code, said = run(folder, tmp_path / "no", "--classifier", tmp_path / given)
        assert code == 1
        assert text in said
    code, said = run(folder, tmp_path / "no", "--frames", "5", "--accept-licence")
    assert code == 1
    assert "the 5 frames of a view do not divide into tubelets of 2" in said
    assert not (tmp_path / "no").exists()
