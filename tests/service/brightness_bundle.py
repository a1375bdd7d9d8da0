"""A bundle whose answers can be told by eye: it likes what is bright.

The selector scores a token by its mean brightness, so that the brightest tokens are kept. The
extractor averages the kept tokens' brightness: the label is "dark", "grey" or "bright". A bright
square on black is "dark" as a whole and "bright" when only a twentieth of it is looked at, which
shows that the selection, the gather and the sparsity really reach the answer.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bundle.answers import AnswerFacts
from bundle.schema import (
    EXTRACTOR_FILE,
    MANIFEST_FILE,
    SELECTOR_FILE,
    AccuracyPoint,
    Downscale,
    FileDigest,
    Geometry,
    Macs,
    Manifest,
    Normalisation,
    Provenance,
    Sampling,
    SelectorFacts,
    SparsityRange,
)

LABELS = ["dark", "grey", "bright"]
GEOMETRY = Geometry(frames=16, size=64, patch=16, context=1, width=4)
SAMPLING = Sampling(short_side=64, default_views="1x1")
DEFAULT_SPARSITY = 0.5
SPARSITY = SparsityRange(lowest=0.0, highest=0.95, default=DEFAULT_SPARSITY)
MACS = Macs(selector=1000, extractor_fixed=100, extractor_per_token=10, extractor_per_token_pair=1)


@dataclass(frozen=True, slots=True)
class Variant:
    """What a bundle may be besides; the defaults are a bundle of version 1.

    A sigmoid's logits are 4 where the label is wholly right, so that its probability is 0.98.
    """

    version: int = 1
    geometry: Geometry = GEOMETRY
    sampling: Sampling = SAMPLING
    selector: SelectorFacts | None = None
    answer: AnswerFacts | None = None
    sparsity: SparsityRange = SPARSITY
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def downscale(self) -> Downscale:
        return Downscale() if self.selector is None else self.selector.downscale

    @property
    def facts(self) -> dict[str, Any]:
        """Those of the manifest's fields that are said at all."""
        said = {"selector": self.selector, "answer": self.answer, **self.more}
        return {name: value for name, value in said.items() if value is not None}


def write_brightness_bundle(
    path: Path,
    slow: int = 0,
    fails_at: float | None = None,
    overflows_at: float | None = None,
    labels: Sequence[str] = LABELS,
    variant: Variant = Variant(),
) -> Path:
    """Write the bundle.

    ``labels`` are three others, for what is dark, grey and bright.
    ``slow`` is the number of large matrix products that each extraction has besides. An extraction
    of tokens that are brighter than ``fails_at`` on average (0 to 255) reads beyond a tensor, which
    onnxruntime answers with an exception of its own; of tokens brighter than ``overflows_at``,
    gives logits that are no numbers.
    """
    path.mkdir(parents=True, exist_ok=True)
    graphs = {
        SELECTOR_FILE: _selector(variant).SerializeToString(),
        EXTRACTOR_FILE: _extractor(variant, slow, fails_at, overflows_at).SerializeToString(),
    }
    for name, graph in graphs.items():
        (path / name).write_bytes(graph)
    manifest = Manifest(
        schema_version=variant.version,
        name="brightness",
        version="7",
        labels=list(labels),
        geometry=variant.geometry,
        sampling=variant.sampling,
        normalisation=Normalisation(mean=[0.0] * 3, std=[1.0] * 3),
        sparsity=variant.sparsity,
        macs=MACS,
        accuracy=[AccuracyPoint(sparsity=0.9, top1=0.75, clips=4)],
        provenance=Provenance(recipe="by hand", seed=0, commit="none", data="none", parameters=1),
        files={
            name: FileDigest(sha256=hashlib.sha256(graph).hexdigest(), bytes=len(graph))
            for name, graph in graphs.items()
        },
        **variant.facts,
    )
    (path / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2))
    return path


def _selector(variant: Variant) -> onnx.ModelProto:
    geometry, smaller = variant.geometry, variant.downscale
    steps, rows, columns = geometry.grid
    small, cell = smaller.shape(geometry), geometry.patch // smaller.space
    # Small frames of one step in time, or steps for which a small frame stands.
    together, repeated = max(1, small[0] // steps), max(1, steps // small[0])
    nodes = [
        helper.make_node("Cast", ["clip_small"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "cells_shape"], ["cells"]),
        helper.make_node("ReduceMean", ["cells", "cell_axes"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "single_shape"], ["single"]),
        helper.make_node("Concat", ["single"] * repeated, ["repeated"], axis=2),
        helper.make_node("Reshape", ["repeated", "scores_shape"], ["scores"]),
    ]
    constants = {
        "cells_shape": [-1, steps // repeated, together, rows, cell, columns, cell * 3],
        "cell_axes": [2, 4, 6],
        "single_shape": [-1, steps // repeated, 1, rows * columns],
        "scores_shape": [-1, geometry.tokens],
    }
    if geometry.context:
        nodes += [
            helper.make_node("ReduceMean", ["scores", "last_axis"], ["overall"], keepdims=1),
            helper.make_node("Reshape", ["overall", "context_shape"], ["column"]),
            helper.make_node("Concat", ["column"] * geometry.width, ["context"], axis=2),
        ]
        constants |= {"last_axis": [1], "context_shape": [-1, 1, 1]}
    return _model(
        nodes,
        [_value("clip_small", TensorProto.UINT8, ["B", *small])],
        [_value("scores", TensorProto.FLOAT, ["B", geometry.tokens]), *_context(geometry)],
        {name: np.array(value, np.int64) for name, value in constants.items()},
    )


def _context(geometry: Geometry) -> list[onnx.ValueInfoProto]:
    if not geometry.context:
        return []
    return [_value("context", TensorProto.FLOAT, ["B", geometry.context, geometry.width])]


def _extractor(
    variant: Variant, slow: int, fails_at: float | None, overflows_at: float | None
) -> onnx.ModelProto:
    geometry = variant.geometry
    sigmoid = variant.answer is not None and variant.answer.kind == "sigmoid"
    video = helper.make_node("ReduceMean", ["context", "last"], ["video"], keepdims=0)
    if not geometry.context:
        video = helper.make_node("Concat", ["brightness"] * geometry.video, ["video"], axis=1)
    nodes = [
        helper.make_node("Cast", ["patches"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "all_but_rows"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["brightness"]),  # [B, 1]
        # A parabola for each label, highest at 0, 128 and 255.
        helper.make_node("Sub", ["brightness", "centres"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["squared"]),
        helper.make_node("Mul", ["squared", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "top"], ["plain_logits"]),
        video,
        # Both are read, as the contract has them; neither changes the answer.
        helper.make_node("Cast", ["positions"], ["positions_f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["positions_f", "last"], ["position"], keepdims=1),
        helper.make_node("Cast", ["lengths"], ["lengths_f"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["lengths_f", "last"], ["length"]),
        helper.make_node("Add", ["position", "length"], ["both"]),
        helper.make_node("Mul", ["both", "zero"], ["nothing"]),
        helper.make_node("Add", ["plain_logits", "nothing"], ["given" if slow else "logits"]),
    ]
    constants: dict[str, np.ndarray] = {
        "all_but_rows": np.array([1, 2], np.int64),
        "last": np.array([1], np.int64),
        "centres": np.array([[0.0, 128.0, 255.0]], np.float32),
        "scale": np.array(-0.002, np.float32),
        "top": np.array(4.0 if sigmoid else 0.0, np.float32),
        "zero": np.array(0.0, np.float32),
    }
    if fails_at is not None:
        constants["fails_at"] = np.array(fails_at, np.float32)
        constants["single"] = np.zeros(1, np.float32)
        last = nodes.pop()
        nodes += [
            helper.make_node("Greater", ["brightness", "fails_at"], ["is_beyond"]),
            helper.make_node("Cast", ["is_beyond"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["single", "index"], ["gathered"]),  # 0 is there, 1 is not
            helper.make_node("Add", ["nothing", "gathered"], ["and_nothing"]),
        ]
        last.input[1] = "and_nothing"
        nodes.append(last)
    if overflows_at is not None:
        constants["overflows_at"] = np.array(overflows_at, np.float32)
        last = nodes.pop()
        nodes += [
            helper.make_node("LessOrEqual", ["brightness", "overflows_at"], ["is_below"]),
            helper.make_node("Cast", ["is_below"], ["one_below"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["nothing", "one_below"], ["or_no_number"]),  # 0 / 0
        ]
        last.input[1] = "or_no_number"
        nodes.append(last)
    if slow:
        # Starts from the input, so that constant folding cannot do it beforehand.
        constants["square"] = np.full((1024, 1024), 1e-3, np.float32)
        constants["ones"] = np.ones((1024, 1), np.float32)
        nodes.append(helper.make_node("MatMul", ["square", "square_seed"], ["work_0"]))
        nodes.insert(-1, helper.make_node("ReduceMax", ["nothing"], ["seed"], keepdims=0))
        nodes.insert(-1, helper.make_node("Add", ["square", "seed"], ["square_seed"]))
        for step in range(slow):
            nodes.append(
                helper.make_node("MatMul", ["square", f"work_{step}"], [f"work_{step + 1}"])
            )
        nodes.append(helper.make_node("ReduceMax", [f"work_{slow}"], ["most"], keepdims=0))
        nodes.append(helper.make_node("Mul", ["most", "zero"], ["still_nothing"]))
        nodes.append(helper.make_node("Add", ["given", "still_nothing"], ["logits"]))
    return _model(
        nodes,
        [
            _value("patches", TensorProto.UINT8, ["B", "K", geometry.patch_bytes]),
            _value("positions", TensorProto.INT64, ["B", "K"]),
            _value("lengths", TensorProto.INT64, ["B"]),
            *_context(geometry),
        ],
        [
            _value("logits", TensorProto.FLOAT, ["B", len(LABELS)]),
            _value("video", TensorProto.FLOAT, ["B", geometry.video]),
        ],
        constants,
    )


def _value(name: str, dtype: int, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "brightness",
        inputs,
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    return model
