"""Both versions of ``bundle.json``: what they may say, and what they mean."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bundle.answers import AnswerFacts
from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from bundle.schema import Manifest

Document = dict[str, Any]
_DIGEST = {"sha256": "0" * 64, "bytes": 1}


def document(version: int = 2) -> Document:
    """The least that both versions need."""
    return {
        "schema_version": version,
        "name": "clips",
        "version": "1",
        "labels": ["walk", "run", "jump"],
        "geometry": {"frames": 4, "size": 32, "patch": 8, "context": 1, "width": 6},
        "sampling": {"short_side": 32},
        "normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3},
        "sparsity": {"lowest": 0.0, "highest": 0.9, "default": 0.5},
        "macs": dict.fromkeys(
            ("selector", "extractor_fixed", "extractor_per_token", "extractor_per_token_pair"), 1
        ),
        "accuracy": [{"sparsity": 0.5, "top1": 0.5, "clips": 10}],
        "provenance": {"recipe": "r", "seed": 0, "commit": "c", "data": "d", "parameters": 1},
        "files": {"selector.onnx": _DIGEST, "extractor.onnx": _DIGEST},
    }


def read(found: Document) -> Manifest:
    return Manifest.model_validate_json(json.dumps(found))


def refusal(found: Document) -> str:
    with pytest.raises(ValidationError) as caught:
        read(found)
    return str(caught.value)


def test_version_1_means_what_it_meant() -> None:
    manifest = read(document(1))
    assert manifest.geometry.grid == (4, 4, 4)
    assert manifest.geometry.patch_bytes == 8 * 8 * 3
    assert manifest.geometry.video == manifest.geometry.width == 6
    assert manifest.selector.downscale.shape(manifest.geometry) == (2, 16, 16, 3)
    assert (manifest.sampling.kind, manifest.sampling.framing) == ("uniform", "crop")
    assert (manifest.answer.kind, manifest.answer.temperature) == ("softmax", 1.0)
    assert manifest.answer.unknown_below(0.5) is None
    assert (manifest.selector.kind, manifest.sparsity.basis) == ("learned", "trained")


def test_a_document_is_written_as_the_version_that_it_is() -> None:
    """The built-in bundle's document, read and written again, is the same document."""
    path = default_bundle_path()
    published = json.loads((path / "bundle.json").read_text())
    assert published["schema_version"] == 2
    assert read_bundle(path).manifest.model_dump(mode="json") == published
    first = read(document(1)).model_dump_json()
    assert read(json.loads(first)).model_dump_json() == first
    second = json.loads(read(document(2)).model_dump_json())
    assert second["geometry"]["tubelet"] == 1
    assert read(second).model_dump(mode="json") == second


LATER: list[tuple[str, Any]] = [
    ("geometry.tubelet", 1),
    ("geometry.video_width", 6),
    ("geometry.frame_tokens", 0),
    ("sampling.kind", "uniform"),
    ("sampling.stride", None),
    ("sampling.framing", "crop"),
    ("selector", {"kind": "learned"}),
    ("answer", {"kind": "softmax"}),
    ("sparsity.basis", "trained"),
    ("accuracy.0.top5", 0.9),
    ("accuracy.0.precision", "fp32"),
    ("accuracy.0.agreement", 1.0),
    ("rivals", []),
    ("licence", None),
    ("provenance.source", None),
    ("provenance.network", None),
    ("files.extractor.weights", _DIGEST),
]


@pytest.mark.parametrize(("place", "value"), LATER)
def test_what_came_later_is_refused_in_version_1(place: str, value: Any) -> None:
    """Even where it says what version 1 means anyway: nobody may take it for understood."""
    found = document(1)
    parent, *rest = place.split(".")
    if place.startswith("files."):
        found["files"][place.removeprefix("files.")] = value
    elif rest:
        part = found[parent]
        (part[int(rest[0])] if rest[0].isdigit() else part)[rest[-1]] = value
    else:
        found[parent] = value
    name = place.removeprefix("files.").replace(".0.", ".")
    assert f"{name} came with schema version 2, and schema_version is 1" in refusal(found)
    found["schema_version"] = 2
    read(found)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d["geometry"].update(context=0), "geometry.context may be 0 from schema ver"),
        (lambda d: d["provenance"].pop("seed"), "provenance.seed may be left out from schema ver"),
        (lambda d: d["geometry"].update(size=24), "in version 1 be a multiple of twice the patch"),
    ],
)
def test_what_version_1_needs(change: Callable[[Document], object], reason: str) -> None:
    found = document(1)
    change(found)
    assert reason in refusal(found)
    found["schema_version"] = 2
    if found["geometry"]["size"] == 24:
        found["sampling"]["short_side"] = 24
    read(found)


def test_all_that_version_2_may_say() -> None:
    found = document()
    found["geometry"] |= {"frames": 16, "tubelet": 2, "context": 0, "video_width": 12}
    found["sampling"] = {"kind": "dense", "stride": 4, "short_side": 40, "default_views": "5x3"}
    found["selector"] = {"kind": "change", "downscale": {"time": 1, "space": 2}}
    found["answer"] = {
        "kind": "sigmoid",
        "temperature": 1.5,
        "temperatures": [{"sparsity": 0.5, "temperature": 0.7}],
        "known": {"weights": [0.5] * 12, "bias": -1.0},
        "thresholds": [0.5, 0.4, 0.9],
        "unknown": [{"sparsity": 0.0, "threshold": 0.2}, {"sparsity": 0.5, "threshold": 0.3}],
    }
    found["sparsity"]["basis"] = "untuned"
    found["accuracy"][0] |= {"precision": "fp16", "agreement": 0.99, "top5": 0.8}
    found["rivals"] = [{"name": "4 frames, dense", "macs": 5, "top1": 0.4, "clips": 10}]
    found["licence"] = {"name": "CC BY-NC 4.0", "commercial": False, "attribution": "A. Nobody"}
    del found["provenance"]["seed"]
    found["provenance"]["source"] = {"place": "hub/id", "file": "a.safetensors", "sha256": "0" * 64}
    found["provenance"]["network"] = {"family": "videomae", "depth": 12, "mean": [0.5, 0.5, 0.5]}
    found["files"]["extractor.weights"] = _DIGEST
    manifest = read(found)
    assert manifest.geometry.grid == (8, 4, 4)
    assert manifest.geometry.patch_bytes == 2 * 8 * 8 * 3
    assert manifest.geometry.video == 12
    assert manifest.selector.downscale.shape(manifest.geometry) == (16, 16, 16, 3)
    assert manifest.model_dump(mode="json", exclude_unset=True) == found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d["geometry"].update(tubelet=3), "multiple of the tubelet, got 4 and 3"),
        (lambda d: d["geometry"].update(size=36), "multiple of the patch"),
        (lambda d: d["geometry"].update(frames=3), "frames must be even for the selector's 2x"),
        (lambda d: d["geometry"].update(size=27, patch=9), "size must be even for the selector's"),
        (lambda d: d["geometry"].update(context=-1), "geometry.context"),
        (lambda d: d["sampling"].update(kind="dense"), "dense sampling needs a stride"),
        (lambda d: d["sampling"].update(stride=4), "stride is for dense sampling"),
        (lambda d: d["sampling"].update(kind="dense", stride=0), "sampling.stride"),
        (
            lambda d: d["sampling"].update(framing="squash", default_views="2x3"),
            "framing squash shows the whole picture: default_views has 1 spatial view, got 2x3",
        ),
        (
            lambda d: d["sampling"].update(framing="pad", short_side=40),
            "short_side must be geometry.size 32 where framing is pad, got 40",
        ),
        (lambda d: d.update(selector={"kind": "best"}), "selector.kind"),
        (lambda d: d.update(selector={"downscale": {"time": 3}}), "selector.downscale.time"),
        (lambda d: d.update(answer={"temperature": 0}), "answer.temperature"),
        (lambda d: d.update(answer={"thresholds": [0.5] * 3}), "thresholds are for sigmoid"),
        (
            lambda d: d.update(answer={"kind": "sigmoid", "thresholds": [0.5] * 2}),
            "answer.thresholds must be one for each of the 3 labels, got 2",
        ),
        (lambda d: d.update(answer={"unknown": []}), "answer.unknown"),
        (
            lambda d: d.update(answer={"unknown": [{"sparsity": 0.5, "threshold": 0.5}] * 2}),
            "unknown has a sparsity twice",
        ),
        (
            lambda d: d.update(answer={"temperatures": [{"sparsity": 0.5, "temperature": 2}] * 2}),
            "temperatures has a sparsity twice",
        ),
        (
            lambda d: d.update(answer={"known": {"weights": [1.0], "bias": 0}}),
            "known is a score for the thresholds of unknown, and there are none",
        ),
        (
            lambda d: d.update(
                answer={
                    "known": {"weights": [1.0], "bias": 0},
                    "unknown": [{"sparsity": 0.5, "threshold": 0.5}],
                }
            ),
            "answer.known.weights must be one for each of the",
        ),
        (lambda d: d["sparsity"].update(basis="hoped"), "sparsity.basis"),
        (lambda d: d.update(licence={"name": ""}), "licence.name"),
        (lambda d: d["files"].update({"other.weights": _DIGEST}), "files must be exactly"),
        (lambda d: d["provenance"].update(source={"place": "x", "file": "y"}), "source.sha256"),
    ],
)
def test_what_version_2_may_not_say(change: Callable[[Document], object], reason: str) -> None:
    found = document()
    change(found)
    assert reason in refusal(found)


def test_the_threshold_of_the_nearest_sparsity_counts() -> None:
    answer = AnswerFacts.model_validate(
        {"unknown": [{"sparsity": 0.8, "threshold": 0.4}, {"sparsity": 0.2, "threshold": 0.1}]}
    )
    found = [answer.unknown_below(sparsity) for sparsity in (0.0, 0.4, 0.5, 0.51, 0.99)]
    assert found == [0.1, 0.1, 0.1, 0.4, 0.4]


TEXTS = st.sampled_from(["", "kind", "sigmoid", "dense", "squash", "1x3", "name", "threshold"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_stands_in_a_field_is_understood_or_refused(data: st.DataObject) -> None:
    """And what is understood is written so that it is understood again."""
    found = document(data.draw(st.sampled_from([1, 2])))
    for place in ("selector", "answer", "rivals", "licence"):
        if data.draw(st.booleans()):
            found[place] = data.draw(JSON)
    for part, names in (
        ("geometry", ("frames", "tubelet", "context", "video_width", "frame_tokens")),
        ("sampling", ("kind", "stride", "framing", "default_views")),
        ("provenance", ("source", "network")),
    ):
        name = data.draw(st.sampled_from(names))
        if data.draw(st.booleans()):
            found[part][name] = data.draw(st.integers(0, 40) | JSON)
    try:
        manifest = Manifest.model_validate_json(json.dumps(found))
    except ValidationError:
        return
    again = Manifest.model_validate_json(manifest.model_dump_json())
    assert again.model_dump_json() == manifest.model_dump_json()
