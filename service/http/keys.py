"""API keys: who may ask, how often, and how much at once.

A key is 256 random bits, of which only the SHA-256 is stored. Passwords need a slow hash, because
people choose them from a small set that can be tried out; nobody tries out 2^256 keys, and a slow
hash (bcrypt, scrypt) would hand strangers a way to keep the service busy with wrong ones.

A line of a key file, or an entry of ``LOOKWHEN_API_KEYS``, is ``NAME:HASH``. The name is for the
person who keeps the file; it appears in no log and no metric.
"""

import hashlib
import hmac
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from service.errors import RateLimited, TooManyConcurrent, Unauthorized

logger = logging.getLogger(__name__)

PREFIX = "lw_"
_MAX_KEYS = 10_000
_MAX_FILE_BYTES = 2 * 1024 * 1024
# How often the key file is looked at, at most.
_LOOK_SECONDS = 1.0
_ENTRY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}):([0-9a-f]{64})", re.ASCII)


class KeyFileError(Exception):
    """The keys cannot be used; the text says which line is wrong, and never a key."""


def make_key(name: str) -> tuple[str, str]:
    """A new key, and the line that stores it.

    Raises:
        ValueError: the name is not one of 1 to 64 letters, digits and ``._-``.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    line = f"{name}:{hash_of(key)}"
    if not _ENTRY.fullmatch(line):
        raise ValueError("a name has 1 to 64 letters, digits, dots, dashes and underscores")
    return key, line


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def parse_keys(lines: Iterable[str], source: str) -> dict[str, str]:
    """Read ``NAME:HASH`` entries; empty lines and those that begin with ``#`` are skipped.

    Returns:
        Hash to name.

    Raises:
        KeyFileError: an entry of another form, or a name or hash that is there twice.
    """
    found: dict[str, str] = {}
    names: set[str] = set()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _ENTRY.fullmatch(text)
        if match is None:
            # Never the line itself: somebody may have put the key there.
            raise KeyFileError(
                f"{source}: entry {number} is not NAME:HASH as `lookwhen key NAME` prints it"
            )
        name, digest = match.groups()
        if digest in found or name in names:
            raise KeyFileError(f"{source}: entry {number} repeats a name or a key")
        found[digest] = name
        names.add(name)
        if len(found) > _MAX_KEYS:
            raise KeyFileError(f"{source}: more than {_MAX_KEYS} keys")
    return found


def read_key_file(path: Path) -> dict[str, str]:
    """Read a key file; see :func:`parse_keys`.

    Raises:
        KeyFileError: it cannot be read, is too large, or has a bad line.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise KeyFileError(f"{path}: has more than {_MAX_FILE_BYTES} bytes")
        return parse_keys(content.decode("ascii").splitlines(), str(path))
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise KeyFileError(f"{path}: is not plain ASCII text") from None


def presented(headers: Mapping[str, str]) -> str | None:
    """The key that a request carries, or None.

    Raises:
        Unauthorized: two that differ, or an Authorization that is not a bearer's.
    """
    found = {headers["x-api-key"].strip()} if "x-api-key" in headers else set()
    if "authorization" in headers:
        scheme, _, value = headers["authorization"].partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("The Authorization header must be `Bearer KEY`")
        found.add(value.strip())
    if len(found) > 1:
        raise Unauthorized("The two headers carry different keys")
    return found.pop() if found else None


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """See the settings of the same names; 0 means without limit."""

    requests_per_minute: float
    burst_requests: int
    max_requests_in_flight: int


class _Account:
    """What one key has used: a bucket of requests that fills again, and those in flight."""

    def __init__(self, limits: KeyLimits, now: float) -> None:
        self.in_flight = 0
        self._limits, self._full_at = limits, now
        self._requests = float(limits.burst_requests)

    def take(self, now: float, count: int = 1) -> None:
        limits = self._limits
        most = limits.max_requests_in_flight
        if most and self.in_flight + count > most:
            raise TooManyConcurrent(most)
        if limits.requests_per_minute:
            rate = limits.requests_per_minute / 60
            filled = self._requests + rate * max(0.0, now - self._full_at)
            self._requests, self._full_at = min(filled, float(limits.burst_requests)), now
            # A hair below the number, so that who waits exactly as long as told is not refused.
            if self._requests < count - 1e-9:
                wait = max(1, math.ceil((count - self._requests) / rate))
                raise RateLimited(limits.requests_per_minute, wait)
            self._requests -= count
        self.in_flight += count


class Ticket:
    """A request of a key that is counted until the ``with`` block ends."""

    def __init__(
        self, account: _Account | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._account, self._clock = account, clock
        self._count = 1

    def count(self, more: int) -> None:
        """Count so many requests more: what is asked is as much as they would be.

        Raises:
            RateLimited, TooManyConcurrent: the key has used up what it may.
        """
        if self._account is not None and more:
            self._account.take(self._clock(), more)
            self._count += more

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._account is not None:
            self._account.in_flight -= self._count


class Keys:
    """The keys that are accepted, from a file that may change and from a fixed list.

    Args:
        fixed: entries ``NAME:HASH``.
        file: a file of such lines, looked at again when it changes; a change that cannot be read
            leaves the keys as they were and is logged.
        limits: of each key.
        clock: seconds, steady: the wall clock may jump.

    Raises:
        KeyFileError: the keys cannot be read, or a file or list was given and holds none.
    """

    def __init__(
        self,
        fixed: Iterable[str],
        file: Path | None,
        limits: KeyLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fixed = parse_keys(fixed, "LOOKWHEN_API_KEYS")
        self._file, self._limits, self._clock = file, limits, clock
        self._accounts: dict[str, _Account] = {}
        self._looked = clock()
        self._seen = self._stamp()
        self._hashes = self._read()
        if file is not None and not self._hashes:
            raise KeyFileError(f"{file}: holds no key; `lookwhen key NAME` makes one")

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def required(self) -> bool:
        """Whether requests must carry a key: a file that was emptied since lets nobody in."""
        return self._file is not None or bool(self._fixed)

    def admit(self, headers: Mapping[str, str]) -> Ticket:
        """Let a request in that carries a key, within the key's limits.

        Raises:
            Unauthorized: no key, or one that is not known.
            RateLimited, TooManyConcurrent: the key has used up what it may.
        """
        if not self.required:
            return Ticket(None)
        self._look()
        key = presented(headers)
        if key is None:
            raise Unauthorized("This address needs a key")
        digest = self._find(hash_of(key))
        if digest is None:
            raise Unauthorized("The key is not known here")
        now = self._clock()
        account = self._accounts.setdefault(digest, _Account(self._limits, now))
        account.take(now)
        return Ticket(account, self._clock)

    def _find(self, digest: str) -> str | None:
        """Compare with every hash, each in constant time, whether or not one has matched."""
        found = None
        for known in self._hashes:
            if hmac.compare_digest(known, digest):
                found = known
        return found

    def _read(self) -> dict[str, str]:
        of_file = read_key_file(self._file) if self._file is not None else {}
        if self._fixed.keys() & of_file.keys():
            raise KeyFileError(f"{self._file}: repeats a key of LOOKWHEN_API_KEYS")
        return self._fixed | of_file

    def _look(self) -> None:
        """Read the file again if it has changed since."""
        now = self._clock()
        if self._file is None or now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._hashes = self._read()
        except KeyFileError as error:
            logger.error("the keys stay as they were", extra={"reason": str(error)})
            return
        self._accounts = {d: a for d, a in self._accounts.items() if d in self._hashes}
        logger.info("the keys were read again", extra={"keys": len(self._hashes)})

    def _stamp(self) -> tuple[int, int, int] | None:
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns
