"""Keys: made, stored, found, limited; never told to anybody."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import RateLimited, TooManyConcurrent, Unauthorized
from service.http import keys as module
from service.http.keys import KeyFileError, KeyLimits, Keys, make_key, parse_keys

UNLIMITED = KeyLimits(requests_per_minute=0, burst_requests=1, max_requests_in_flight=0)


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_key_is_long_random_and_stored_as_a_hash_alone() -> None:
    made = [make_key("phone") for _ in range(100)]
    assert len({key for key, _ in made}) == 100
    for key, line in made:
        assert key.startswith("lw_")
        assert len(key) == 3 + 43  # 32 bytes in base64
        assert line == f"phone:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-x", "x" * 65, "é", "a\nb", "a,b"])
def test_names_that_would_spoil_the_file(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        make_key(name)


def test_who_has_a_key_gets_in_by_either_header() -> None:
    key, line = make_key("phone")
    keys = Keys([line], None, UNLIMITED)
    for headers in (
        bearer(key),
        {"authorization": f"bearer  {key} "},
        {"x-api-key": key},
        {"x-api-key": key, **bearer(key)},
    ):
        with keys.admit(headers):
            pass


def test_who_has_none_does_not() -> None:
    key, line = make_key("phone")
    other, _ = make_key("phone")
    keys = Keys([line], None, UNLIMITED)
    digest = line.partition(":")[2]
    for headers in (
        {},
        bearer(""),
        bearer(other),
        bearer(key[:-1]),
        bearer(key + "A"),
        bearer(key.upper()),
        bearer(digest),  # who has read the file has no key
        {"x-api-key": ""},
        {"x-api-key": other, **bearer(key)},
        {"authorization": f"Basic {key}"},
        {"authorization": key},
        {"x-api-key": "\u00e9\u0000"},
    ):
        with pytest.raises(Unauthorized) as caught:
            keys.admit(headers)
        assert caught.value.headers["www-authenticate"].startswith("Bearer")
        assert key not in caught.value.detail


def test_without_keys_nobody_is_asked() -> None:
    keys = Keys([], None, UNLIMITED)
    assert not keys.required
    with keys.admit({}):
        pass


def test_every_hash_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [make_key(f"client{number}") for number in range(5)]
    keys = Keys([line for _, line in made], None, UNLIMITED)
    compared: list[tuple[str, str]] = []
    real = module.hmac.compare_digest
    monkeypatch.setattr(
        module.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b)
    )
    for key, _ in made:
        compared.clear()
        with keys.admit(bearer(key)):
            pass
        assert len(compared) == len(made), "no early end tells which one it was"


def test_the_bucket_fills_at_its_rate_and_holds_its_burst() -> None:
    clock = Clock()
    key, line = make_key("phone")
    keys = Keys([line], None, KeyLimits(60, 3, 0), clock)
    headers = bearer(key)
    for _ in range(3):
        keys.admit(headers).__exit__(None, None, None)
    with pytest.raises(RateLimited) as caught:
        keys.admit(headers)
    assert caught.value.headers["retry-after"] == "1"
    clock.now += 0.999
    with pytest.raises(RateLimited):
        keys.admit(headers)
    clock.now += 0.001  # to be refused does not cost anything
    keys.admit(headers).__exit__(None, None, None)
    clock.now += 3600
    for _ in range(3):
        keys.admit(headers).__exit__(None, None, None)
    with pytest.raises(RateLimited):
        keys.admit(headers)


@given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 10), st.floats(1, 600))
def test_no_pattern_gets_more_than_burst_and_rate(
    pauses: list[float], burst: int, per_minute: float
) -> None:
    clock = Clock()
    began = clock.now
    key, line = make_key("phone")
    keys = Keys([line], None, KeyLimits(per_minute, burst, 0), clock)
    admitted = 0
    for pause in pauses:
        clock.now += pause
        try:
            keys.admit(bearer(key)).__exit__(None, None, None)
        except RateLimited as error:
            wait = int(error.headers["retry-after"])
            assert wait >= 1
        else:
            admitted += 1
    assert admitted <= burst + (clock.now - began) * per_minute / 60 + 1e-6


def test_requests_in_flight_are_of_each_key_alone() -> None:
    (first, a), (second, b) = make_key("a"), make_key("b")
    keys = Keys([a, b], None, KeyLimits(0, 1, 2))
    one, two = keys.admit(bearer(first)), keys.admit(bearer(first))
    with one, two:
        with pytest.raises(TooManyConcurrent) as caught:
            keys.admit(bearer(first))
        assert caught.value.members["limit"] == 2
        with keys.admit(bearer(second)):
            pass
    with keys.admit(bearer(first)):
        pass


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "keys.txt"


def test_a_file_is_read_again_when_it_changes(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    (first, a), (second, b) = make_key("first-client"), make_key("second-client")
    file.write_text(f"# clients\n\n{a}\n")
    keys = Keys([], file, UNLIMITED, clock)
    keys.admit(bearer(first))
    with pytest.raises(Unauthorized):
        keys.admit(bearer(second))

    file.write_text(f"{b}\n")
    clock.now += 2
    keys.admit(bearer(second))
    with pytest.raises(Unauthorized):
        keys.admit(bearer(first))

    # As Kubernetes replaces a Secret: another file in its place.
    elsewhere = file.with_suffix(".new")
    elsewhere.write_text(f"{a}\n{b}\n")
    elsewhere.rename(file)
    clock.now += 2
    keys.admit(bearer(first))

    # A mistake in the file locks nobody out, and lets nobody in.
    file.write_text("this is no entry\n")
    clock.now += 2
    keys.admit(bearer(first))
    assert "the keys stay as they were" in caplog.text
    file.unlink()
    clock.now += 2
    keys.admit(bearer(first))

    # An emptied file is no mistake: all keys were taken back.
    file.write_text("# nobody\n")
    clock.now += 2
    with pytest.raises(Unauthorized):
        keys.admit(bearer(first))
    assert "client" not in caplog.text, "names are not logged"
    assert a.partition(":")[2] not in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("lw_not-a-hash", "entry 1 is not NAME:HASH"),
        ("name:" + "A" * 64, "entry 1 is not NAME:HASH"),
        ("\nname:" + "a" * 63, "entry 2 is not NAME:HASH"),
        ("a:" + "a" * 64 + "\na:" + "b" * 64, "entry 2 repeats"),
        ("a:" + "a" * 64 + "\nb:" + "a" * 64, "entry 2 repeats"),
        ("", "holds no key"),
        ("\u00e9:" + "a" * 64, "not plain ASCII"),
    ],
)
def test_a_bad_file_is_named_with_the_entry_and_not_with_what_it_says(
    file: Path, content: str, reason: str
) -> None:
    file.write_text(content)
    with pytest.raises(KeyFileError, match=reason) as caught:
        Keys([], file, UNLIMITED)
    assert "lw_" not in str(caught.value)
    with pytest.raises(KeyFileError, match="cannot be read"):
        Keys([], file.with_name("absent"), UNLIMITED)


def test_a_huge_file_is_not_read(file: Path) -> None:
    with file.open("wb") as out:
        os.truncate(out.fileno(), 1 << 30)
    with pytest.raises(KeyFileError, match="more than"):
        Keys([], file, UNLIMITED)


@pytest.mark.slow
@given(st.text(max_size=200))
def test_reading_entries_does_nothing_worse_than_refuse(text: str) -> None:
    with contextlib.suppress(KeyFileError):
        parse_keys(text.split("\n"), "source")
