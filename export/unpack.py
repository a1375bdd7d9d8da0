"""``lookwhen bundle unpack OUT [BUNDLE]``: a bundle's weights back as a checkpoint.

So that what is served can be trained on: the built-in model needs no download to start from.

Exporting moves weights about: matrices are transposed, tables are gathered into constants. Rather
than knowing how, a twin whose every weight is a number of its own is exported as well; wherever
such a number turns up in the twin's graph, the bundle's graph holds that weight.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from bundle.built_in import find_bundle
from bundle.reader import Bundle, BundleError, read_bundle
from export.graphs import (
    clip_selector_to_onnx,
    extractor_to_onnx,
    network_to_onnx,
    selector_to_onnx,
)
from export.parity import Check, ParityError, check, check_network
from export.prepare import fold_norms
from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from model.config import CONFIGS, ModelConfig
from networks.building import build_network
from networks.checkpoint import save_network
from networks.config import NetworkConfig
from networks.learned_selector import LearnedSelector, LearnedSelectorConfig
from networks.network import VideoNetwork
from networks.selectors import make_selector, selector_input
from startup.console import Command

_Twin = TypeVar("_Twin", bound=nn.Module)

# Weight number n is the float32 whose bits are this plus n: 8.6e9 and more, which no constant of a
# graph is, and never the same twice, or the exporter would merge them. From the last number on they
# are infinite.
_FIRST, _INFINITE = 0x50000000, 0x7F800000


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
    twin = LookWhen(config).eval()
    for network in (model, twin):
        fold_norms(network)
    graphs = [(bundle.selector, selector_to_onnx), (bundle.extractor, extractor_to_onnx)]
    _recover(bundle, model, twin, graphs)
    return model, check(model, bundle.selector, bundle.extractor)


@dataclasses.dataclass(frozen=True, slots=True)
class UnpackedNetwork:
    """A published network as it was exported.

    Attributes:
        network: what answers.
        selector: one that was trained for the network; None where it has no weights.
        checks: the comparisons with the bundle's graphs, all of which agree.
    """

    network: VideoNetwork
    selector: LearnedSelector | None
    checks: list[Check]


def unpack_network(bundle: Bundle) -> UnpackedNetwork:
    """The published network that a bundle was exported from, such as one of ``lookwhen import``.

    Raises:
        UnpackError: the bundle holds no published network, its weights lie beside its graphs, they
            are too many to be told apart, or another version of the exporter arranged them.
        ParityError: the network does not answer what the bundle answers.
    """
    config = _network_config(bundle)
    if bundle.extractor_weights is not None:
        raise UnpackError(
            f"{bundle.path}: weights of more than 2 GiB are not unpacked; import the network once "
            "more, with --checkpoint"
        )
    network = build_network(config).eval()
    twin = build_network(config).eval()
    _recover(bundle, network, twin, [(bundle.extractor, network_to_onnx)])
    if bundle.manifest.selector.kind != "learned":
        # It has no weights; what it was exported with is not compared, such as the seed of chance.
        chooser = make_selector("group", selector_input(config))
        graph = clip_selector_to_onnx(chooser)
        return UnpackedNetwork(
            network, None, check_network(network, chooser, graph, bundle.extractor)
        )
    shape = LearnedSelectorConfig.of(config)
    trained, other = LearnedSelector(shape).eval(), LearnedSelector(shape).eval()
    _recover(bundle, trained, other, [(bundle.selector, clip_selector_to_onnx)])
    checks = check_network(network, trained, bundle.selector, bundle.extractor)
    return UnpackedNetwork(network, trained, checks)


def _network_config(bundle: Bundle) -> NetworkConfig:
    described = bundle.manifest.provenance.network
    if described is None:
        raise UnpackError(f"{bundle.path}: its manifest describes no published network")
    try:
        return NetworkConfig.from_json(described)
    except ValueError as error:
        raise UnpackError(f"{bundle.path}: its network is none that is known ({error})") from None


def _recover(
    bundle: Bundle,
    module: _Twin,
    twin: _Twin,
    graphs: Sequence[tuple[bytes, Callable[[_Twin], bytes]]],
) -> None:
    """Fill a module's parameters with those that a bundle's graphs hold.

    Args:
        bundle: named where something is wrong.
        module: filled.
        twin: another module of the same shape, whose weights are overwritten.
        graphs: of the bundle, and how each is made of a module.

    Raises:
        UnpackError: the graphs are arranged otherwise, or a weight is in none of them.
    """
    total = sum(weight.numel() for weight in _weights(module))
    if total > _INFINITE - _FIRST:
        raise UnpackError(
            f"{bundle.path}: {total:,} weights are more than can be told apart "
            f"({_INFINITE - _FIRST:,}); start from its checkpoint"
        )
    found = np.full(total, np.nan, np.float32)
    for content, export in graphs:
        theirs = _constants(content)
        places = _places(twin, total, export)
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
    _fill(module, found)


def config_of(bundle: Bundle) -> ModelConfig:
    """The named configuration with the bundle's geometry and number of parameters.

    Raises:
        UnpackError: there is none.
    """
    manifest = bundle.manifest
    shape = manifest.geometry
    for named, summary in itertools.product(CONFIGS.values(), (False, True)):
        if summary and named.stem is None:
            continue
        config = dataclasses.replace(
            named,
            stem_summary=summary,  # fine-tuning adds one
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


def _places(twin: _Twin, total: int, export: Callable[[_Twin], bytes]) -> list[NDArray[np.int64]]:
    """For each constant of the graph, the number of the weight that each of its values is; -1
    where it is none. Weights are numbered in the order of the twin's parameters."""
    values = (_FIRST + np.arange(total, dtype=np.int64)).astype(np.uint32).view(np.float32)
    _fill(twin, values)
    places = []
    for constant in _constants(export(twin)):
        numbers = constant.view(np.uint32).astype(np.int64) - _FIRST
        places.append(np.where((numbers >= 0) & (numbers < total), numbers, -1))
    return places


def _weights(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that a graph holds: norms of a stem are folded, and their factors are 1."""
    factors = {id(norm.weight) for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)}
    return [weight for weight in module.parameters() if id(weight) not in factors]


def _fill(module: nn.Module, values: NDArray[np.float32]) -> None:
    """Write values into the module's parameters, in their order."""
    at = 0
    with torch.no_grad():
        for parameter in _weights(module):
            part = values[at : at + parameter.numel()]
            parameter.copy_(torch.from_numpy(part).reshape(parameter.shape))
            at += parameter.numel()


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("bundle", required=False, type=click.Path(file_okay=False, path_type=Path))
def main(out: Path, bundle: Path | None) -> None:
    """Write the weights of BUNDLE, or of the built-in one, to OUT as a checkpoint.

    BUNDLE is a directory, or the name of a built-in bundle.

    The checkpoint is compared with the bundle's graphs before it is written.
    """
    try:
        path = find_bundle(bundle)
        if path.resolve() in out.resolve().parents:
            raise UnpackError(f"{out} would lie in the bundle, which would then be none")
        read = read_bundle(path)
        write = _write_network if read.manifest.provenance.network else _write_model
        name, checks = write(read, out)
    except (BundleError, ParityError, UnpackError) as error:
        raise click.ClickException(f"no checkpoint was written: {error}") from None
    worst = max(made.difference for made in checks)
    click.echo(f"{len(checks)} comparisons with the bundle agree; the widest is {worst:.1e}")
    click.echo(f"wrote {name} with {len(read.manifest.labels)} labels to {out}")


def _write_model(read: Bundle, out: Path) -> tuple[str, list[Check]]:
    """Write what was unpacked; its configuration's name, and the comparisons."""
    model, checks = unpack(read)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, out, _facts(read))
    return model.config.name, checks


def _write_network(read: Bundle, out: Path) -> tuple[str, list[Check]]:
    """:func:`_write_model` of a published network; source, licence and range go with it."""
    unpacked = unpack_network(read)
    facts, manifest = _facts(read), read.manifest
    if (source := manifest.provenance.source) is not None:
        facts["source"] = source.model_dump()
    if (licence := manifest.licence) is not None:
        facts["licence"] = licence.model_dump()
    if manifest.sparsity.basis == "tuned":
        facts["sparsities"] = [manifest.sparsity.lowest, manifest.sparsity.highest]
    out.parent.mkdir(parents=True, exist_ok=True)
    save_network(unpacked.network, out, facts, unpacked.selector)
    return unpacked.network.config.name, unpacked.checks


def _facts(read: Bundle) -> dict[str, Any]:
    source = read.manifest.provenance
    return {
        "name": source.recipe,
        "recipe": {"seed": source.seed},
        "data": source.data,
        "commit": source.commit,
        "clips_seen": source.clips_seen,
        "unpacked_from": f"bundle {read.manifest.name} {read.manifest.version}",
    }


if __name__ == "__main__":
    main(prog_name="python -P -m export.unpack")
