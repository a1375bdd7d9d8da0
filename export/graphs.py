"""The two ONNX graphs of a bundle."""

import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import Message
from onnx import helper, numpy_helper
from onnxscript import ir, opset20
from torch import Tensor, nn

from bundle.schema import EXTRACTOR_WEIGHTS_FILE
from model.classifier import LookWhen
from model.config import ModelConfig
from model.writing import whole_file
from networks.config import NetworkConfig
from networks.network import VideoNetwork
from networks.selectors import ClipSelector

# Up to opset 22 attention is spelled out in basic operators (see `_attention`), which every
# execution provider has; from 23 on it is one operator that some still lack.
OPSET = 20
FUSED_ATTENTION_OPSET = 23

# Of the weights that a graph keeps in a file of their own: shape inference needs small constants.
_SMALLEST_MOVED = 1024
_MOVED = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
# Pages, so that the file can be mapped.
_ALIGNMENT = 4096

# Its annotations are for values of scripts, not of traces.
_op: Any = opset20


class SelectorGraph(nn.Module):
    """clip_small uint8 [B, T/2, H/2, W/2, 3] -> scores float [B, N], context float [B, P, D]."""

    def __init__(self, model: LookWhen) -> None:
        super().__init__()
        self.selector = model.selector

    def forward(self, clip_small: Tensor) -> tuple[Tensor, Tensor]:
        scores, context = self.selector(clip_small)
        return scores, context


class ExtractorGraph(nn.Module):
    """patches uint8 [B, K, patch*patch*3], positions int64 [B, K], lengths int64 [B], context
    float [B, P, D] -> logits float [B, classes], video float [B, D]."""

    def __init__(self, model: LookWhen) -> None:
        super().__init__()
        self.extractor = model.extractor
        self.head = model.head

    def forward(
        self, patches: Tensor, positions: Tensor, lengths: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        features = self.extractor(patches, positions, context, lengths)
        return self.head(features.video), features.video


class NetworkGraph(nn.Module):
    """As :class:`ExtractorGraph`, of a network that takes no context."""

    def __init__(self, network: VideoNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor, positions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        logits, video = self.network(patches, positions, lengths)
        return logits, video


def example_inputs(
    config: ModelConfig, batch: int, kept: int, seed: int = 0
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Random inputs of both graphs: the selector's, and the extractor's with full lengths."""
    generator = torch.Generator().manual_seed(seed)
    half = config.size // 2
    clip_small = torch.randint(
        0, 256, (batch, config.frames // 2, half, half, 3), dtype=torch.uint8, generator=generator
    )
    patches, positions, lengths = _tokens(config, batch, kept, generator)
    context = torch.randn(batch, config.context, config.width, generator=generator)
    return clip_small, (patches, positions, lengths, context)


def network_inputs(
    config: NetworkConfig, batch: int, kept: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Random inputs of a published network's graph, with full lengths."""
    return _tokens(config, batch, kept, torch.Generator().manual_seed(seed))


def _tokens(
    config: ModelConfig | NetworkConfig, batch: int, kept: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    patches = torch.randint(
        0, 256, (batch, kept, config.patch_values), dtype=torch.uint8, generator=generator
    )
    positions = torch.stack(
        [
            torch.randperm(config.tokens, generator=generator)[:kept].sort().values
            for _ in range(batch)
        ]
    )
    return patches, positions, torch.full((batch,), kept)


def selector_to_onnx(model: LookWhen, *, opset: int = OPSET) -> bytes:
    """Export the selector; the batch is dynamic."""
    clip_small, _ = example_inputs(model.config, batch=2, kept=2)
    return _to_onnx(
        SelectorGraph(model),
        (clip_small,),
        inputs=["clip_small"],
        outputs=["scores", "context"],
        dynamic={"clip_small": {0: "batch"}},
        opset=opset,
    )


def extractor_to_onnx(model: LookWhen, *, opset: int = OPSET) -> bytes:
    """Export the extractor with the head; batch and K are dynamic."""
    kept = min(model.config.tokens, 24)
    _, inputs = example_inputs(model.config, batch=2, kept=kept)
    return _to_onnx(
        ExtractorGraph(model),
        inputs,
        inputs=["patches", "positions", "lengths", "context"],
        outputs=["logits", "video"],
        dynamic={
            "patches": {0: "batch", 1: "kept"},
            "positions": {0: "batch", 1: "kept"},
            "lengths": {0: "batch"},
            "context": {0: "batch"},
        },
        opset=opset,
    )


def network_to_onnx(
    network: VideoNetwork, *, opset: int = OPSET, weights: Path | None = None
) -> bytes:
    """Export a published network with its head; batch and K are dynamic.

    Args:
        network: what is exported.
        opset: ONNX's.
        weights: the file to write weights to, which the graph then names by
            ``EXTRACTOR_WEIGHTS_FILE``; for networks over protobuf's 2 GiB.
    """
    kept = min(network.config.tokens, 24)
    return _to_onnx(
        NetworkGraph(network),
        network_inputs(network.config, batch=2, kept=kept),
        inputs=["patches", "positions", "lengths"],
        outputs=["logits", "video"],
        dynamic={
            "patches": {0: "batch", 1: "kept"},
            "positions": {0: "batch", 1: "kept"},
            "lengths": {0: "batch"},
        },
        opset=opset,
        weights=weights,
    )


def clip_selector_to_onnx(selector: ClipSelector, *, opset: int = OPSET) -> bytes:
    """Export a published network's selector; it gives ``scores`` and no context."""
    clip_small = torch.zeros(2, *selector.given.shape, dtype=torch.uint8)
    return _to_onnx(
        selector,
        (clip_small,),
        inputs=["clip_small"],
        outputs=["scores"],
        dynamic={"clip_small": {0: "batch"}},
        opset=opset,
    )


def _to_onnx(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    *,
    inputs: list[str],
    outputs: list[str],
    dynamic: dict[str, dict[int, str]],
    opset: int,
    weights: Path | None = None,
) -> bytes:
    dims = {
        name: {axis: torch.export.Dim(dim) for axis, dim in axes.items()}
        for name, axes in dynamic.items()
    }
    translations: dict[Callable[..., Any], Callable[..., Any]] = {
        torch.ops.aten.sort.stable: _stable_sort
    }
    if opset < FUSED_ATTENTION_OPSET:
        translations[torch.ops.aten.scaled_dot_product_attention.default] = _attention
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            examples,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=dims,
            opset_version=opset,
            custom_translation_table=translations,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    assert program is not None  # dynamo=True always gives a program
    if weights is not None:
        _move_weights(program.model, weights)
    exported = program.model_proto
    _forget_the_machine(exported)
    _widen_masks(exported.graph)
    buffer = io.BytesIO()
    onnx.save(exported, buffer)
    return buffer.getvalue()


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``scaled_dot_product_attention`` in basic operators: [B, h, L, d] -> the same.

    With a Boolean mask the exporter's own translation goes over all weights twice more, for queries
    that may see no key. Ours all see the context, so that it would look for what cannot be.
    """
    if dropout_p or is_causal or scale is not None or enable_gqa:
        raise NotImplementedError("attention that no layer of ours asks for")
    floats = query.dtype

    def constant(number: float) -> Any:
        return _op.Constant(value=ir.tensor(number, dtype=floats))

    scaled = _op.Mul(query, constant(float(query.shape[-1]) ** -0.5))
    logits = _op.MatMul(scaled, _op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None:
        if attn_mask.dtype == ir.DataType.BOOL:
            # Lower than any logit, so that a hidden key weighs exactly 0.
            attn_mask = _op.Where(attn_mask, constant(0.0), constant(floats.min))
        logits = _op.Add(logits, attn_mask)
    return _op.MatMul(_op.Softmax(logits, axis=-1), value)


def _move_weights(model: ir.Model, path: Path) -> None:
    """Write a graph's weights to a file, one after the other, and let it name the places."""
    with whole_file(path) as part, part.open("wb") as file:
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < _SMALLEST_MOVED or tensor.dtype not in _MOVED:
                continue
            file.write(bytes(-file.tell() % _ALIGNMENT))
            offset = file.tell()
            file.write(tensor.tobytes())
            value.const_value = ir.ExternalTensor(
                EXTRACTOR_WEIGHTS_FILE,
                offset,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=name,
            )


def _stable_sort(values: Any, *, stable: bool, dim: int = -1, descending: bool = False) -> Any:
    """``sort(stable=True)``, which the exporter lacks: [..., n] -> sorted values, their places.

    TopK gives equal values in the order of their places, as a stable sort does.
    """
    if not stable:
        raise NotImplementedError("a sort that no module of ours asks for")
    count = _op.Shape(values, start=dim, end=None if dim == -1 else dim + 1)
    return _op.TopK(values, count, axis=dim, largest=int(descending), sorted=1)


def _widen_masks(graph: onnx.GraphProto) -> None:
    """Give each Attention its mask for every query: [B, 1, 1, L] -> [B, 1, L, L].

    The operator lets masks broadcast; onnxruntime's kernel insists on the queries' dimension.
    """
    wide: dict[str, str] = {}
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if node.op_type == "Attention" and len(node.input) > 3 and node.input[3]:
            mask = node.input[3]
            wide[mask] = node.input[0]  # in the end, the queries of the first layer that uses it
            node.input[3] = f"{mask}_wide"
    for mask, queries in wide.items():
        made = [
            helper.make_node("Shape", [queries], [f"{mask}_length"], start=2, end=3),
            helper.make_node(
                "Concat", ["mask_ones", f"{mask}_length", "mask_one"], [f"{mask}_shape"], axis=0
            ),
            helper.make_node("Expand", [mask, f"{mask}_shape"], [f"{mask}_wide"]),
        ]
        first = next(i for i, node in enumerate(graph.node) if f"{mask}_wide" in node.input)
        for offset, node in enumerate(made):
            graph.node.insert(first + offset, node)
    if wide:
        for name, count in (("mask_ones", 2), ("mask_one", 1)):
            ones = np.ones(count, np.int64)
            graph.initializer.append(numpy_helper.from_array(ones, name))


def _forget_the_machine(message: Message) -> None:
    """Drop the exporter's notes for debugging: stack traces, with the paths of who exported."""
    for field, value in list(message.ListFields()):
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                _forget_the_machine(part)
