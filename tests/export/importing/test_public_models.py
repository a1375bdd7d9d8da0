"""The commands of docs/public-models.md, run where the published files lie as the hub has them.

Their keys and forms are the published ones, their sizes are small, and their values are random.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from benchmarks.published_keys import (
    Shapes,
    filled,
    fluxvit,
    internvideo2,
    nested,
    videomae,
    videomae_transformers,
    vjepa2,
    vjepa2_classifiers,
    vjepa2_original,
)
from lookwhen.importing import import_command
from networks.checkpoint import load_network

DOCUMENT = Path(__file__).parents[3] / "docs" / "public-models.md"
SMALL = {"image_size": 32, "num_attention_heads": 4}
INTERNVIDEO2 = {"image_size": 28, "num_attention_heads": 4}
VJEPA2 = {"crop_size": 32, "frames_per_clip": 4, "num_attention_heads": 4}

# What each source of the document is: keys, configuration beside it, licence on its card, labels.
SOURCES: dict[str, tuple[Shapes, dict[str, Any], str | None, int]] = {
    "OpenGVLab/InternVideo2_distillation_models": (
        internvideo2(32, 1, 128, places=8, classes=400), INTERNVIDEO2, None, 400),
    "OpenGVLab/InternVideo2-Stage1-1B-224p-f8-K400": (
        internvideo2(32, 1, 128, places=8, classes=400), INTERNVIDEO2, "apache-2.0", 400),
    "b16_ptk710_ftk710_ftk400_f8_res224.pth": (
        videomae(384, 1, tubelet=1, classes=400), {}, None, 400),
    "MCG-NJU/videomae-base-finetuned-kinetics": (
        videomae_transformers(32, 1), SMALL, "cc-by-nc-4.0", 400),
    "MCG-NJU/videomae-large-finetuned-kinetics": (
        videomae_transformers(32, 2), SMALL, "cc-by-nc-4.0", 400),
    "OpenGVLab/VideoMAE2": (videomae(32, 1, classes=710), SMALL, "apache-2.0", 400),
    "facebook/vjepa2-vitl-fpc16-256-ssv2": (vjepa2(32, 1, 128), VJEPA2, "mit", 174),
    "facebook/vjepa2-vitl-fpc32-256-diving48": (
        vjepa2(32, 1, 128, classes=48), VJEPA2, "mit", 48),
    "fluxvit_b14.pth": (fluxvit(384, 1, classes=400), {}, None, 400),
    "vitl.pt": (vjepa2_original(384, 1, 64), {}, None, 174),
    "vitg-384.pt": (vjepa2_original(384, 1, 64), {}, None, 174),
}  # fmt: skip


def rows() -> Iterator[tuple[str, list[str], str]]:
    """(source, options, licence) of every command in the document's table of models."""
    pattern = r"^\| `lookwhen import (\S+) OUT([^`]*)` \|[^|]*\|[^|]*\| ([^|]*) \|$"
    for source, options, licence in re.findall(pattern, DOCUMENT.read_text(), re.MULTILINE):
        yield source, shlex.split(options), licence


def lay(folder: Path, source: str, file: str | None, classifier: str | None) -> None:
    """Write the source's files as the hub, or the authors' server, has them."""
    shapes, config, licence, _ = SOURCES[source]
    name = source if "/" not in source else f"{source}/{file or 'model.safetensors'}"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(filled(shapes), path)
    elif classifier is not None:
        torch.save(nested(filled(shapes)), path)
        (head,) = nested(filled(vjepa2_classifiers(384, 174, 1), 1)).values()
        torch.save({"classifiers": [head]}, folder / classifier)
    else:
        torch.save({"model": filled(shapes)}, path)
    if config:
        (path.parent / "config.json").write_text(json.dumps(config))
    if licence is not None:
        (folder / source / "README.md").write_text(f"---\nlicense: {licence}\n---\n")


def test_the_documents_sources_are_those_that_are_tried() -> None:
    assert {source for source, _, _ in rows()} == set(SOURCES)


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "options", "licence"), [*rows()], ids=[source for source, _, _ in rows()]
)
def test_a_command_does_what_the_document_says(
    source: str, options: list[str], licence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = options[options.index("--file") + 1] if "--file" in options else None
    at = options.index("--classifier") + 1 if "--classifier" in options else None
    lay(tmp_path, source, file, None if at is None else options[at])
    monkeypatch.chdir(tmp_path)
    # Without OUT: that graphs can be made of every family is tested elsewhere.
    result = CliRunner().invoke(
        import_command, [source, *options, "--checkpoint", "network.safetensors"]
    )
    assert result.exit_code == 0, result.output
    stated = licence.partition(" (")[0]
    assert f"licence of the weights: {stated.replace('none stated', 'not stated')}" in result.output
    network, _ = load_network(tmp_path / "network.safetensors")
    assert len(network.config.labels) == SOURCES[source][3]
    if "--accept-licence" in options:
        refused = [option for option in options if option != "--accept-licence"]
        result = CliRunner().invoke(import_command, [source, *refused, "--checkpoint", "n"])
        assert result.exit_code == 1
        assert "--accept-licence" in result.output
