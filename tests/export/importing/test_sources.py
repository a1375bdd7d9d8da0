"""Where checkpoints are found, and under which licence they are."""

import json
from pathlib import Path

import pytest

from export.importing.errors import ImportRefused
from export.importing.licences import check_accepted, licence_of
from export.importing.sources import choose, find_checkpoint


def fill(folder: Path, *names: str, **documents: object) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


def test_a_folder_as_the_hub_has_it(tmp_path: Path) -> None:
    fill(
        tmp_path, "model.safetensors", "pytorch_model.bin",
        config={"num_frames": 16}, preprocessor_config={"image_mean": [0.5, 0.5, 0.5]},
    )  # fmt: skip
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    found = find_checkpoint(str(tmp_path), file=None, revision=None)
    assert found.file == "model.safetensors"
    assert not found.pickled
    assert found.weights == (tmp_path / "model.safetensors",)
    assert found.config == {"num_frames": 16}
    assert found.preprocessor == {"image_mean": [0.5, 0.5, 0.5]}
    assert licence_of(found.place, "vjepa2", found.card).name == "MIT"
    pickled = find_checkpoint(str(tmp_path), file="pytorch_model.bin", revision=None)
    assert pickled.pickled
    assert pickled.sha256() != found.sha256()


def test_shards_are_those_that_the_index_names(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "m-1-of-2.safetensors", "b": "m-2-of-2.safetensors"}}
    fill(tmp_path, "m-1-of-2.safetensors", "m-2-of-2.safetensors", "stray.safetensors")
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    found = find_checkpoint(str(tmp_path), file=None, revision=None)
    assert [shard.name for shard in found.weights] == sorted(index["weight_map"].values())
    (tmp_path / "m-2-of-2.safetensors").unlink()
    with pytest.raises(ImportRefused, match=r"names the shard m-2-of-2\.safetensors, which"):
        find_checkpoint(str(tmp_path), file=None, revision=None)
    for elsewhere in ("../secret.safetensors", "/etc/passwd", "more/x.safetensors"):
        path.write_text(json.dumps({"weight_map": {"a": elsewhere}}))
        with pytest.raises(ImportRefused, match="which is no shard beside it"):
            find_checkpoint(str(tmp_path), file=None, revision=None)


@pytest.mark.parametrize(
    ("names", "file", "chosen"),
    [
        (["a.pth"], None, "a.pth"),
        (["a.pth", "a.safetensors", "README.md"], None, "a.safetensors"),
        (["sub/pytorch_model.bin", "README.md"], None, "sub/pytorch_model.bin"),
        (["x.pth", "sub/pytorch_model.bin"], "sub/pytorch_model.bin", "sub/pytorch_model.bin"),
    ],
)
def test_which_file_is_meant(names: list[str], file: str | None, chosen: str) -> None:
    assert choose("here", names, file) == chosen


@pytest.mark.parametrize(
    ("names", "file", "why"),
    [
        ([], None, "holds no weights, which end in"),
        (["README.md", "training_args.bin"], None, "holds no weights"),
        (["a.pth", "b.pth"], None, "several weights; choose one with --file. there are a.pth, b"),
        (["a.pth"], "b.pth", "has no weights 'b.pth'; there are a.pth"),
    ],
)
def test_what_is_not_clear_is_refused(names: list[str], file: str | None, why: str) -> None:
    with pytest.raises(ImportRefused, match=why):
        choose("here", names, file)


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="there is no file or folder"):
        find_checkpoint(str(tmp_path / "none.pth"), file=None, revision=None)
    with pytest.raises(ImportRefused, match="is no file of weights"):
        find_checkpoint(__file__, file=None, revision=None)
    with pytest.raises(ImportRefused, match="--revision is for a hub's repository"):
        find_checkpoint(str(tmp_path), file=None, revision="main")
    fill(tmp_path, "model.safetensors")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ImportRefused, match=r"config\.json: is no JSON object"):
        find_checkpoint(str(tmp_path), file=None, revision=None)


@pytest.mark.parametrize(
    ("place", "family", "card", "name", "commercial"),
    [
        ("MCG-NJU/videomae-base-finetuned-kinetics", "videomae", "", "CC-BY-NC-4.0", False),
        ("OpenGVLab/VideoMAE2", "videomae", "", "Apache-2.0", True),
        ("OpenGVLab/InternVideo2_distillation_models", "internvideo2", "", "not stated", None),
        ("OpenGVLab/InternVideo2-Stage1-1B-224p-f8-K400", "internvideo2", "", "Apache-2.0", True),
        ("facebook/vjepa2-vitl-fpc16-256-ssv2", "vjepa2", "", "MIT", True),
        ("b16.pth", "umt", "", "not stated", None),
        ("vit_b.pth", "videomaev2", "", "CC-BY-NC-4.0", False),
        ("mine/copy", "videomae", "---\nlicense: apache-2.0\n---\n", "Apache-2.0", True),
        ("mine/copy", "umt", "---\ntags: [a]\nlicense:\n- cc-by-nc-sa-4.0\n---\n",
         "CC-BY-NC-SA-4.0", False),
        ("mine/copy", "umt", "---\nlicense: other\nlicense_name: our-research-licence\n---\n",
         "our-research-licence", False),
        ("mine/copy", "umt", "---\nlicense: openrail\n---\n", "openrail", None),
        ("mine/copy", "none", "license: mit", "not stated", None),
    ],
)  # fmt: skip
def test_licences(place: str, family: str, card: str, name: str, commercial: bool | None) -> None:
    found = licence_of(place, family, card)
    assert (found.name, found.commercial) == (name, commercial)
    check_accepted(found, True)
    if commercial:
        check_accepted(found, False)
    else:
        with pytest.raises(ImportRefused, match="--accept-licence"):
            check_accepted(found, False)
