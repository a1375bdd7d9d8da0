"""A published network as a bundle: its graphs, checked, and what the manifest says of it."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle.schema import (
    EXTRACTOR_FILE,
    EXTRACTOR_WEIGHTS_FILE,
    SCHEMA_VERSION,
    SELECTOR_FILE,
    AccuracyPoint,
    Geometry,
    Licence,
    Manifest,
    Normalisation,
    Provenance,
    Rival,
    Sampling,
    SelectorFacts,
    SparsityRange,
    WeightsSource,
)
from export.accuracy import DEFAULT_VIEWS
from export.graphs import OPSET, clip_selector_to_onnx, network_to_onnx
from export.pack import exported_with, file_digests, macs_of, write_bundle
from export.parity import Check, check_network
from model.folders import own_folder
from networks.config import NetworkConfig
from networks.learned_selector import LearnedSelector
from networks.macs import cost
from networks.network import VideoNetwork
from networks.selectors import ClipSelector, downscaling, make_selector, selector_input

# Published of dense checkpoints that nobody tuned: 2 points less at half the tokens, 11 at a
# quarter, 22 at a twelfth (FluxViT's table 1, arXiv 2503.14237).
UNTUNED = SparsityRange(lowest=0.0, highest=0.6, default=0.3, basis="untuned")
# After a tuning with several K, 4 points less at a quarter of the tokens (the same table).
TUNED = SparsityRange(lowest=0.0, highest=0.85, default=0.5, basis="tuned")


def known_range(config: NetworkConfig) -> SparsityRange:
    """For which sparsities a published network is known to be good, before anybody tuned it.

    A dense checkpoint's are those of :data:`UNTUNED`. FluxViT was trained with several numbers of
    tokens: its range is between the least and the most of them.
    """
    shares = [kept / config.tokens for kept in config.budgets if kept <= config.tokens]
    if not shares or min(shares) == 1:
        return UNTUNED
    lowest, highest = 1 - max(shares), 1 - min(shares)
    default = min(max(UNTUNED.default, lowest), highest)
    return SparsityRange(lowest=lowest, highest=highest, default=default, basis="trained")


# Graphs below protobuf's 2 GiB are whole. Weights are nearly all of a graph; the rest fits between.
LARGEST_WHOLE_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class NetworkGraphs:
    """What :func:`export_network` made.

    Attributes:
        chooser: the selector as a module.
        selector, extractor: both as ONNX.
        weights: the file with the extractor's weights; None where the graph holds them itself.
        checks: the comparisons with torch, all of which agree.
    """

    chooser: ClipSelector
    selector: bytes
    extractor: bytes
    weights: Path | None
    checks: list[Check]


@contextmanager
def export_network(
    network: VideoNetwork,
    selector: str | LearnedSelector,
    *,
    seed: int = 0,
    opset: int = OPSET,
    largest_whole_bytes: int = LARGEST_WHOLE_BYTES,
) -> Iterator[NetworkGraphs]:
    """Export a network with a selector, and compare both with torch.

    Weights over protobuf's limit lie in the folder for temporary files (``TMPDIR``) until the
    context ends.

    Args:
        network: what answers.
        selector: one of :data:`networks.selectors.SELECTORS`, or one that was trained for the
            network.
        seed: of the selector ``random``.
        opset: ONNX's.
        largest_whole_bytes: of weights that stay in the graph.

    Raises:
        ParityError: a graph does not answer what its module does.
        ValueError: the network's shape is no bundle's.
    """
    chooser: ClipSelector
    if isinstance(selector, LearnedSelector):
        chooser = selector.eval()
    else:
        chooser = make_selector(selector, selector_input(network.config), seed=seed)
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    with own_folder(Path(tempfile.gettempdir()), "lookwhen-export-", 0o700) as folder:
        weights = None
        if size > largest_whole_bytes:
            weights = folder / EXTRACTOR_WEIGHTS_FILE
        extractor = network_to_onnx(network.eval(), opset=opset, weights=weights)
        graph = clip_selector_to_onnx(chooser, opset=opset)
        checks = check_network(network, chooser, graph, extractor, weights)
        yield NetworkGraphs(chooser, graph, extractor, weights, checks)


def write_network_bundle(
    out: Path,
    network: VideoNetwork,
    selector: str,
    graphs: NetworkGraphs,
    *,
    name: str,
    version: str,
    sparsity: SparsityRange,
    provenance: Provenance,
    licence: Licence | None = None,
    accuracy: list[AccuracyPoint] | None = None,
    rivals: list[Rival] | None = None,
) -> Manifest:
    """Write an exported network as a bundle directory; see :func:`export.pack.write_bundle`."""
    config = network.config
    time, space = downscaling(config)
    files: dict[str, bytes | Path] = {
        SELECTOR_FILE: graphs.selector, EXTRACTOR_FILE: graphs.extractor,
    }  # fmt: skip
    outside: dict[str, bytes | Path] = {}
    if graphs.weights is not None:
        outside[EXTRACTOR_WEIGHTS_FILE] = graphs.weights
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        version=version,
        labels=list(config.labels),
        geometry=Geometry(
            frames=config.frames,
            size=config.size,
            patch=config.patch,
            tubelet=config.tubelet,
            context=0,
            width=config.width,
            video_width=config.video_width,
        ),
        sampling=Sampling.model_validate(
            {
                "kind": config.sampling,
                "stride": config.stride,
                "short_side": config.short_side,
                "framing": config.framing,
                "default_views": DEFAULT_VIEWS,
            }
        ),
        normalisation=Normalisation(mean=list(config.mean), std=list(config.std)),
        selector=SelectorFacts.model_validate(
            {"kind": selector, "downscale": {"time": time, "space": space}}
        ),
        sparsity=sparsity,
        macs=macs_of(cost(config), graphs.chooser.macs),
        accuracy=accuracy or [],
        rivals=rivals or [],
        licence=licence,
        provenance=provenance,
        files=file_digests({**files, **outside}),
    )
    write_bundle(out, manifest, graphs.selector, graphs.extractor, outside)
    return manifest


def network_provenance(
    network: VideoNetwork, *, recipe: str, data: str, commit: str = "unknown",
    source: WeightsSource | None = None,
) -> Provenance:  # fmt: skip
    """Where a network's weights come from, with its configuration."""
    return Provenance(
        recipe=recipe,
        commit=commit,
        data=data,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        exported_with=exported_with(),
        source=source,
        network=json.loads(json.dumps(network.config.as_json())),  # tuples to lists
    )
