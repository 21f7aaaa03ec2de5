"""What every benchmark shares: interleaved runs, medians, and how busy the machine was."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import psutil


def describe_machine() -> str:
    """Return one line to print before the figures of a run."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return f"{platform.machine()}, {os.cpu_count()} cores, load {load:.2f} before the run"


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(work: Mapping[str, Callable[[], float]], runs: int = 5) -> dict[str, list[float]]:
    """Return the figures of every piece of `work`, taken in turn, so that drift hits all alike."""
    figures: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs):
        for name, measure in work.items():
            figures[name].append(measure())
    return figures


def median(figures: list[float]) -> float:
    return statistics.median(figures)


def spread(figures: list[float], digits: int = 2) -> str:
    """Return "median (least to most)"."""
    low, high = min(figures), max(figures)
    return f"{median(figures):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def family_rss() -> int:
    """Return the resident bytes of this process and of every one below it."""
    me = psutil.Process()
    total = me.memory_info().rss
    for child in me.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it ended between the two questions
    return int(total)
