"""``lookwhen bundle unpack OUT [BUNDLE]``: a bundle's weights back as a checkpoint.

So that what is served can be trained on: the built-in model needs no download to start from.

Exporting moves weights about: matrices are transposed, tables are gathered into constants. Rather
than knowing how, a twin whose every weight is a number of its own is exported as well; wherever
such a number turns up in the twin's graph, the bundle's graph holds that weight.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from bundle.reader import Bundle, BundleError, default_bundle_path, read_bundle
from export.graphs import extractor_to_onnx, selector_to_onnx
from export.parity import Check, ParityError, check
from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from model.config import CONFIGS, ModelConfig
from startup.console import Command

# Weight number n is the float32 whose bits are this plus n: 8.6e9 and more, which no constant of a
# graph is, and never the same twice, or the exporter would merge them.
_FIRST = 0x50000000


class UnpackError(Exception):
    """A bundle whose weights cannot be told apart; the text says why."""


def unpack(bundle: Bundle) -> tuple[LookWhen, list[Check]]:
    """The model that a bundle was exported from, and the comparisons that prove it.

    Raises:
        UnpackError: no named configuration has the bundle's shape, or another version of the
            exporter arranged its graphs.
        ParityError: the model does not answer what the bundle answers.
    """
    config = config_of(bundle)
    model = LookWhen(config).eval()
    total = sum(parameter.numel() for parameter in model.parameters())
    found = np.full(total, np.nan, np.float32)
    for content, export in (
        (bundle.selector, selector_to_onnx),
        (bundle.extractor, extractor_to_onnx),
    ):
        theirs = _constants(content)
        places = _places(config, total, export)
        if [array.shape for array in theirs] != [array.shape for array in places]:
            raise UnpackError(
                f"{bundle.path}: its graphs are arranged otherwise than this version exports them "
                f"({bundle.manifest.provenance.exported_with}); start from its checkpoint"
            )
        for numbers, values in zip(places, theirs, strict=True):
            known = numbers >= 0
            found[numbers[known]] = values[known]
    if missing := int(np.isnan(found).sum()):
        raise UnpackError(f"{bundle.path}: {missing} of {total} weights are not in its graphs")
    _fill(model, found)
    return model, check(model, bundle.selector, bundle.extractor)


def config_of(bundle: Bundle) -> ModelConfig:
    """The named configuration with the bundle's geometry and number of parameters.

    Raises:
        UnpackError: there is none.
    """
    manifest = bundle.manifest
    shape = manifest.geometry
    for named in CONFIGS.values():
        config = dataclasses.replace(
            named,
            labels=tuple(manifest.labels),
            lowest_sparsity=manifest.sparsity.lowest,
            highest_sparsity=manifest.sparsity.highest,
        )
        ours = (config.frames, config.size, config.patch, config.context, config.width)
        if ours != (shape.frames, shape.size, shape.patch, shape.context, shape.width):
            continue
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in LookWhen(config).parameters())
        if parameters == manifest.provenance.parameters:
            return config
    raise UnpackError(
        f"{bundle.path}: none of the configurations {', '.join(CONFIGS)} has its shape"
    )


def _constants(content: bytes) -> list[NDArray[np.float32]]:
    """The float constants of a graph, in their order.

    Their names are of no use: the exporter numbers them, and one operation more or less before them
    gives all of them other numbers.
    """
    graph = onnx.load_from_string(content).graph
    return [
        numpy_helper.to_array(constant)
        for constant in graph.initializer
        if constant.data_type == onnx.TensorProto.FLOAT
    ]


def _places(
    config: ModelConfig, total: int, export: Callable[[LookWhen], bytes]
) -> list[NDArray[np.int64]]:
    """For each constant of the graph, the number of the weight that each of its values is; -1
    where it is none. Weights are numbered in the order of the model's parameters."""
    twin = LookWhen(config).eval()
    values = (_FIRST + np.arange(total, dtype=np.int64)).astype(np.uint32).view(np.float32)
    _fill(twin, values)
    places = []
    for constant in _constants(export(twin)):
        numbers = constant.view(np.uint32).astype(np.int64) - _FIRST
        places.append(np.where((numbers >= 0) & (numbers < total), numbers, -1))
    return places


def _fill(model: LookWhen, values: NDArray[np.float32]) -> None:
    """Write values into the model's parameters, in their order."""
    at = 0
    with torch.no_grad():
        for parameter in model.parameters():
            part = values[at : at + parameter.numel()]
            parameter.copy_(torch.from_numpy(part).reshape(parameter.shape))
            at += parameter.numel()


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("bundle", required=False, type=click.Path(file_okay=False, path_type=Path))
def main(out: Path, bundle: Path | None) -> None:
    """Write the weights of BUNDLE, or of the built-in one, to OUT as a checkpoint.

    The checkpoint is compared with the bundle's graphs before it is written.
    """
    try:
        read = read_bundle(bundle or default_bundle_path())
        model, checks = unpack(read)
    except (BundleError, ParityError, UnpackError) as error:
        raise click.ClickException(f"no checkpoint was written: {error}") from None
    source = read.manifest.provenance
    facts = {
        "name": source.recipe,
        "recipe": {"seed": source.seed},
        "data": source.data,
        "commit": source.commit,
        "clips_seen": source.clips_seen,
        "unpacked_from": f"bundle {read.manifest.name} {read.manifest.version}",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, out, facts)
    worst = max(made.difference for made in checks)
    click.echo(f"{len(checks)} comparisons with the bundle agree; the widest is {worst:.1e}")
    click.echo(f"wrote {model.config.name} with {len(model.config.labels)} labels to {out}")


if __name__ == "__main__":
    main(prog_name="python -P -m export.unpack")
