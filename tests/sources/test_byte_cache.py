from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoline.sources.byte_cache import ByteCache


@dataclass(frozen=True)
class _Pair:
    left: NDArray[np.uint8]
    right: tuple[NDArray[np.uint16], ...]


def test_what_was_not_used_for_longest_makes_room() -> None:
    cache, made = ByteCache(300), list[str]()

    def use(key: str) -> None:
        cache.get(key, lambda: made.append(key) or np.zeros(100, np.uint8))  # type: ignore[func-returns-value]

    for key in "abcadabc":
        use(key)
    # d takes the place of b, which then takes that of c, and c that of d
    assert "".join(made) == "abcdbc"
    cache.clear()
    use("a")
    assert made[-1] == "a"


def test_what_is_too_large_is_given_and_takes_no_place() -> None:
    cache = ByteCache(300)
    small = cache.get("small", lambda: np.zeros(300, np.uint8))
    large = [cache.get("large", lambda: np.zeros(301, np.uint8)) for _ in range(2)]
    assert [len(each) for each in large] == [301, 301]
    assert large[0] is not large[1]
    assert cache.get("small", lambda: np.zeros(300, np.uint8)) is small


def test_arrays_count_wherever_they_are() -> None:
    pair = _Pair(np.zeros(100, np.uint8), (np.zeros(50, np.uint16), np.zeros(50, np.uint16)))
    for limit, is_kept in ((299, False), (300, True)):
        cache = ByteCache(limit)
        cache.get("pair", lambda: pair)
        assert (cache.get("pair", lambda: None) is pair) == is_kept, limit
    cache = ByteCache(599)
    cache.get("both", lambda: {"first": pair, "second": [pair.left, *pair.right]})
    assert cache.get("both", int) == 0


def test_nobody_waits_for_what_another_makes() -> None:
    cache, both = ByteCache(300), threading.Barrier(2, timeout=10)

    def make() -> NDArray[np.uint8]:
        both.wait()  # broken, and an error, unless two are here at once
        return np.zeros(1, np.uint8)

    got: list[NDArray[np.uint8]] = []
    threads = [threading.Thread(target=lambda: got.append(cache.get(0, make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 2
