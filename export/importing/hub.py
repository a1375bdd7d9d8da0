"""A repository of a hub, through ``huggingface_hub``: its token, cache, and ``HF_ENDPOINT``."""

from pathlib import Path
from typing import Self

import httpx
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from export.importing.errors import ImportRefused

_ELSEWHERE = (
    "where there is a network, `hf download {0} --local-dir FOLDER` fetches it; then give FOLDER"
)


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

    def __enter__(self) -> Self:
        """Ask the hub what there is; without a network, what was downloaded before.

        Raises:
            ImportRefused: no such repository or revision, no access, or no network.
        """
        try:
            info = HfApi().model_info(self._place, revision=self._wanted)
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
        except (OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
            self._take_cached(error)
            return self
        self.revision = str(info.sha)
        self.names = frozenset(entry.rfilename for entry in info.siblings or ())
        return self

    def __exit__(self, *_: object) -> None:
        """Files stay in the hub's cache."""

    def _take_cached(self, error: Exception) -> None:
        try:
            folder = Path(
                snapshot_download(self._place, revision=self._wanted, local_files_only=True)
            )
        except LocalEntryNotFoundError:
            raise ImportRefused(
                f"{self._place}: the hub cannot be reached ({_short(error)}), and nothing of it "
                f"was downloaded before; {_ELSEWHERE.format(self._place)}"
            ) from None
        self.revision = folder.name
        self.names = frozenset(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )

    def fetch(self, name: str) -> Path:
        """Download a file, or find it in the cache.

        Raises:
            ImportRefused: it cannot be had.
        """
        try:
            return Path(hf_hub_download(self._place, name, revision=self.revision))
        except (HfHubHTTPError, EntryNotFoundError, httpx.HTTPError, OSError) as error:
            raise ImportRefused(
                f"{self._place}: {name} cannot be downloaded ({_short(error)}); "
                f"{_ELSEWHERE.format(self._place)}"
            ) from None


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
