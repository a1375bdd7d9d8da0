"""Where a checkpoint comes from: a file, a folder, or a repository of a hub.

All three end in the same: files on this machine, and what is known of where they are from.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from export.importing.errors import ImportRefused

SAFETENSORS = ".safetensors"
PICKLES = (".bin", ".pth", ".pt", ".ckpt")

# In a folder, the first of these that is there; safetensors before pickles.
_USUAL = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# An index lists a few hundred shards at the most.
_MOST_JSON_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A published checkpoint's files.

    Attributes:
        place: hub id, or the name of the file or folder.
        revision: the hub's commit; None for local files.
        file: which file the weights are in, or the index of several.
        weights: the files themselves.
        pickled: they are pickles, not safetensors.
        config: ``config.json``, {} where there is none.
        preprocessor: ``preprocessor_config.json`` or, where there is none,
            ``video_preprocessor_config.json``; {} where there is neither.
        card: ``README.md`` of the folder or repository, "" where there is none.
    """

    place: str
    revision: str | None
    file: str
    weights: tuple[Path, ...]
    pickled: bool
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    card: str

    def sha256(self) -> str:
        """SHA-256 of the weights' file; of several shards, of their digests in hexadecimal, one a
        line, in the order of their names."""
        digests = []
        for path in self.weights:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def find_checkpoint(source: str, *, file: str | None, revision: str | None) -> FoundCheckpoint:
    """Find a checkpoint's files, and download them where the source is a hub's.

    Args:
        source: path of a file or folder, or else ``OWNER/NAME`` on the hub.
        file: which file of a folder or repository has the weights; None takes the usual one.
        revision: branch, tag or commit of a repository; None for its main branch.

    Raises:
        ImportRefused: nothing is there, it cannot be had, or it is not clear which file is meant.
    """
    path = Path(source)
    if path.exists() or not _is_hub_id(source):
        if revision is not None:
            raise ImportRefused(f"--revision is for a hub's repository, and {source} is none")
        return _local(path, file)
    from export.importing.hub import Repository

    with Repository(source, revision) as repository:
        return assemble(source, repository.revision, repository.names, repository.fetch, file)


def with_classifier(found: FoundCheckpoint, path: Path) -> FoundCheckpoint:
    """A checkpoint whose classifier is published in a file of its own.

    Raises:
        ImportRefused: there is no such file, or only one of the two is a pickle.
    """
    if not path.is_file():
        raise ImportRefused(f"--classifier: there is no file {path}")
    if _is_pickle(path.name) != found.pickled:
        raise ImportRefused(
            f"--classifier: of {found.file} and {path.name} one is a pickle and the other is not"
        )
    return dataclasses.replace(
        found, file=f"{found.file} and {path.name}", weights=(*found.weights, path)
    )


def _is_hub_id(source: str) -> bool:
    parts = source.split("/")
    return len(parts) == 2 and all(
        part and part[0].isalnum() and all(c.isalnum() or c in "-_." for c in part)
        for part in parts
    )


def _local(path: Path, file: str | None) -> FoundCheckpoint:
    if path.is_file():
        if file is not None:
            raise ImportRefused(f"--file is for folders and repositories, and {path} is a file")
        return FoundCheckpoint(
            path.name, None, path.name, (path,), _is_pickle(path.name), {}, {}, ""
        )
    if not path.is_dir():
        raise ImportRefused(
            f"there is no file or folder {path}; a repository of the hub is written OWNER/NAME"
        )
    names = {found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file()}
    return assemble(path.resolve().name, None, names, lambda name: path / name, file)


def assemble(
    place: str,
    revision: str | None,
    names: Collection[str],
    fetch: Callable[[str], Path],
    file: str | None,
) -> FoundCheckpoint:
    """Choose among the names of a folder or repository, and fetch what is needed.

    Raises:
        ImportRefused: no weights, several of which none is the usual one, or an index that names
            what is not there.
    """
    chosen = choose(place, names, file)
    folder = chosen.rpartition("/")[0]

    def beside(name: str) -> str:
        return f"{folder}/{name}" if folder else name

    weights = [chosen]
    if chosen.endswith(".index.json"):
        weights = [beside(name) for name in _shards(_read_json(fetch(chosen)), chosen)]
        for name in weights:
            if name not in names:
                raise ImportRefused(f"{chosen}: names the shard {name}, which {place} lacks")

    def document(name: str) -> dict[str, Any]:
        return _read_json(fetch(beside(name))) if beside(name) in names else {}

    card = next((name for name in (beside("README.md"), "README.md") if name in names), None)
    return FoundCheckpoint(
        place=place,
        revision=revision,
        file=chosen,
        config=document("config.json"),
        preprocessor=document("preprocessor_config.json")
        or document("video_preprocessor_config.json"),
        card=fetch(card).read_text(encoding="utf-8", errors="replace") if card else "",
        weights=tuple(fetch(name) for name in weights),
        pickled=_is_pickle(weights[0]),
    )


def choose(place: str, names: Collection[str], file: str | None) -> str:
    """The file that has the weights, by its name.

    Raises:
        ImportRefused: none has, or it is not clear which.
    """
    weights = sorted(name for name in names if _holds_weights(name))
    if file is not None:
        if file in weights:
            return file
        raise ImportRefused(f"{place}: has no weights {file!r}; {_listed(weights)}")
    for usual in _USUAL:
        if usual in names:
            return usual
    top = [name for name in weights if "/" not in name]
    for form in ([n for n in top if n.endswith(SAFETENSORS)], top, weights):
        if len(form) == 1:
            return form[0]
    if not weights:
        raise ImportRefused(
            f"{place}: holds no weights, which end in {', '.join((SAFETENSORS, *PICKLES))}"
        )
    raise ImportRefused(
        f"{place}: holds several weights; choose one with --file. {_listed(weights)}"
    )


def _listed(weights: list[str]) -> str:
    if not weights:
        return "there are none"
    more = f" and {len(weights) - 12} more" if len(weights) > 12 else ""
    return f"there are {', '.join(weights[:12])}{more}"


def _holds_weights(name: str) -> bool:
    last = PurePosixPath(name).name
    if last.startswith(".") or last == "training_args.bin":
        return False
    return last.endswith((SAFETENSORS, *PICKLES, ".safetensors.index.json", ".bin.index.json"))


def _is_pickle(name: str) -> bool:
    if name.endswith(SAFETENSORS):
        return False
    if name.endswith(PICKLES):
        return True
    raise ImportRefused(
        f"{name}: is no file of weights, which end in {', '.join((SAFETENSORS, *PICKLES))}"
    )


def _shards(index: dict[str, Any], name: str) -> list[str]:
    """The files that an index names: plain names beside it, never a path elsewhere."""
    found = index.get("weight_map")
    if not isinstance(found, dict) or not found:
        raise ImportRefused(f"{name}: has no weight_map, so that it is no index of shards")
    shards = sorted({str(shard) for shard in found.values()})
    for shard in shards:
        if PurePosixPath(shard).name != shard or not _holds_weights(shard):
            raise ImportRefused(f"{name}: names {shard[:100]!r}, which is no shard beside it")
    if len({_is_pickle(shard) for shard in shards}) != 1:
        raise ImportRefused(f"{name}: names safetensors and pickles at once")
    return shards


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise ImportRefused(f"{path.name}: has more than {_MOST_JSON_BYTES} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ImportRefused(f"{path.name}: is no JSON document ({error})") from None
    if not isinstance(found, dict):
        raise ImportRefused(f"{path.name}: is no JSON object")
    return found
