"""A repository of a hub, through ``huggingface_hub``: its token, cache, and ``HF_ENDPOINT``."""

import hashlib
from pathlib import Path
from typing import Self

from huggingface_hub import HfApi, hf_hub_download, scan_cache_dir
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from export.importing.errors import ImportRefused


class Repository:
    """The files of a model's repository at one commit.

    Attributes:
        revision: the commit, in hexadecimal; every file is of this one.
        names: of all files.
    """

    revision: str
    names: frozenset[str]

    def __init__(self, place: str, revision: str | None) -> None:
        self._place, self._wanted = place, revision
        # SHA-256 of large files, as the hub states them; of small ones it states none.
        self._stated: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Ask the hub what there is; without a network, what was downloaded before.

        Raises:
            ImportRefused: no such repository or revision, no access, or no network.
        """
        try:
            info = HfApi().model_info(self._place, revision=self._wanted, files_metadata=True)
        except GatedRepoError:
            raise ImportRefused(
                f"{self._place}: is given only to those who accepted its terms on the hub; accept "
                "them there, and log in with `hf auth login`"
            ) from None
        except RevisionNotFoundError:
            raise ImportRefused(f"{self._place}: has no revision {self._wanted!r}") from None
        except RepositoryNotFoundError:
            raise ImportRefused(
                f"the hub has no repository {self._place}, or shows it only to those who log in "
                "(`hf auth login`)"
            ) from None
        except HfHubHTTPError as error:
            raise ImportRefused(f"{self._place}: the hub answers {_short(error)}") from None
        # Offline, or an error of the HTTP library, which differs by version of huggingface_hub.
        except Exception as error:
            self._take_cached(error)
            return self
        self.revision = str(info.sha)
        entries = info.siblings or ()
        self.names = frozenset(entry.rfilename for entry in entries)
        self._stated = {entry.rfilename: entry.lfs.sha256 for entry in entries if entry.lfs}
        return self

    def __exit__(self, *_: object) -> None:
        """Files stay in the hub's cache."""

    def _take_cached(self, error: Exception) -> None:
        """Take what was downloaded before: the wanted commit, or the only one that there is."""
        try:
            cached = scan_cache_dir().repos
        except CacheNotFound:
            cached = frozenset()
        revisions = [
            revision
            for repository in cached
            if (repository.repo_type, repository.repo_id) == ("model", self._place)
            for revision in repository.revisions
            if self._wanted in (None, revision.commit_hash, *revision.refs)
        ]
        if len(revisions) != 1:
            before = (
                f"{len(revisions)} commits of it were downloaded before; choose with --revision"
                if revisions
                else "nothing of it was downloaded before; where there is a network, `hf download "
                f"{self._place} --local-dir FOLDER` fetches it; then give FOLDER"
            )
            raise ImportRefused(
                f"{self._place}: the hub cannot be reached ({_short(error)}), and {before}"
            ) from None
        (found,) = revisions
        self.revision = found.commit_hash
        self.names = frozenset(
            file.file_path.relative_to(found.snapshot_path).as_posix() for file in found.files
        )

    def fetch(self, name: str) -> Path:
        """Download a file, or find it in the cache.

        The hub's library compares the length of what it downloads; here its SHA-256 is compared,
        too, and what is wrong in the cache is downloaded once more.

        Raises:
            ImportRefused: it cannot be had, or is not what the hub says it is.
        """
        path = self._download(name)
        wanted = self._stated.get(name)
        if wanted is None or _sha256(path) == wanted:
            return path
        path.unlink()  # the name, which a new download would leave as it is
        path = self._download(name, again=True)
        if (found := _sha256(path)) != wanted:
            raise ImportRefused(
                f"{self._place}: what was downloaded as {name} has the SHA-256 {found}, the hub "
                f"says {wanted}: it was altered on its way"
            )
        return path

    def _download(self, name: str, *, again: bool = False) -> Path:
        try:
            return Path(
                hf_hub_download(self._place, name, revision=self.revision, force_download=again)
            )
        except Exception as error:  # the hub's own, the disk's, or the HTTP library's
            raise ImportRefused(
                f"{self._place}: {name} cannot be downloaded ({_short(error)})"
            ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
