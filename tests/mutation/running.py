"""Running tests against a mutant: each in a fork of one interpreter that has imported the rest.

The mutated source is compiled and takes the module's place before anything of isoline is imported.
What numba compiles is warm, unless the mutant lies there: then it runs as Python.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import math
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

from tests.mutation.operators import Mutant
from tests.mutation.targets import Target

TESTS = Path(__file__).parents[1]
_PATIENCE = 3
"""How many times as much of a processor as without a mutant tests may take, and so many seconds."""
_WAIT_SECONDS = 90.0
"""How long they may take in all, also when they only wait."""
_POLL_SECONDS = 0.01
_DID_NOT_RUN = (4, 5)
"""How pytest ends when it was called wrongly or found no test."""


class Fate(str, Enum):
    """What became of a mutant."""

    KILLED = "killed"
    STOPPED = "stopped"
    """It took too long, or crashed: noticed, too."""
    SURVIVED = "survived"


@dataclass(frozen=True)
class Verdict:
    """What the tests said of one mutant."""

    mutant: Mutant
    fate: Fate
    by: str
    """The first test that failed, empty where none did."""
    seconds: float


class Tester:
    """Judges the mutants of one target, in a process that was made for it alone."""

    def __init__(self, target: Target, examples: int) -> None:
        """Run the tests of `target` once, so that all they need is imported and compiled.

        Property tests look at no more than so many `examples`.
        Raises SystemExit when a test fails without any mutant.
        """
        if target.compiled:
            os.environ["NUMBA_DISABLE_JIT"] = "1"
        self._options = [str(TESTS / test) for test in target.tests]
        self._options += [f"--deselect=tests/{test}" for test in target.but_for]
        self._examples = examples
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            _silently(self._ask, Path(folder))
        _forget(["tests", "isoline"], keep=[] if target.compiled else ["isoline.kernels"])
        self._limit = resource.RLIM_INFINITY
        self._cost = 0.0
        fate, by, _ = self._fate_of(None)
        if fate is not Fate.SURVIVED:
            raise SystemExit(f"{target.name}: {by or 'a test'} fails without any mutant")
        self._limit = math.ceil(_PATIENCE * (self._cost + 1))

    def judge(self, mutant: Mutant) -> Verdict:
        """Return what the tests say of `mutant`."""
        mutant.compiled()  # what is no Python is a fault of the tester, and kills nothing
        return Verdict(mutant, *self._fate_of(mutant))

    def _fate_of(self, mutant: Mutant | None) -> tuple[Fate, str, float]:
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            began = time.monotonic()
            if (child := os.fork()) == 0:
                self._be(mutant, Path(folder))
            code, self._cost = _wait(child, began + _WAIT_SECONDS)
            seconds = time.monotonic() - began
            failed = Path(folder) / _FAILED
            by = failed.read_text() if failed.exists() else ""
        if code in _DID_NOT_RUN:
            raise SystemExit(f"pytest ends with {code} on {' '.join(self._options)}")
        fate = Fate.STOPPED if code < 0 else Fate.KILLED if code else Fate.SURVIVED
        return fate, by, seconds

    # In the fork

    def _be(self, mutant: Mutant | None, folder: Path) -> NoReturn:
        """Run the tests with `mutant` and end this process with what pytest returns."""
        code = 3
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (self._limit, self._limit))
            if mutant is not None:
                sys.meta_path.insert(0, _Finder(mutant))
            code = _silently(self._ask, folder)
        finally:
            os._exit(code)  # without waiting for threads that a mutant keeps alive

    def _ask(self, folder: Path) -> int:
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout=0"]
        observer = _Observer(folder / _FAILED, self._examples)
        base = f"--basetemp={folder / 'tmp'}"
        return int(pytest.main([*options, base, *self._options], plugins=[observer]))


def _wait(child: int, deadline: float) -> tuple[int, float]:
    """Return the exit status of `child`, negative when it had to be killed, and its CPU seconds."""
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _forget(packages: Sequence[str], keep: Sequence[str]) -> None:
    """Let `packages` be imported again, but for this one and what to `keep`; these stay warm."""
    kept = [*packages, *keep, "tests.mutation"]
    for name in list(sys.modules):
        package, _, module = name.rpartition(".")
        if name.partition(".")[0] not in packages:
            continue
        if name in kept or any(name.startswith(f"{each}.") for each in kept[len(packages) :]):
            continue
        del sys.modules[name]
        if package in kept:  # `from isoline import wire` looks there first
            vars(sys.modules[package]).pop(module, None)


_FAILED = "failed"


def _silently(run: Any, *arguments: Any) -> int:
    """Call `run` with nothing coming out of this process, whatever it starts or prints."""
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    try:
        return int(run(*arguments))
    finally:
        for stream, original in zip((1, 2), kept, strict=True):
            os.dup2(original, stream)
            os.close(original)
        os.close(nowhere)


class _Observer:
    """Writes down which test failed first, and cuts property tests short."""

    def __init__(self, path: Path, examples: int) -> None:
        self._path = path
        self._examples = examples

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        from hypothesis import Phase, settings

        for item in items:
            function = getattr(item, "obj", None)
            if own := getattr(function, _SETTINGS, None):
                examples = min(self._examples, own.max_examples)
                # that a test fails is enough: nobody asks for the smallest example
                phases = (Phase.explicit, Phase.generate)
                setattr(function, _SETTINGS, settings(own, max_examples=examples, phases=phases))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self._path.exists():
            self._path.write_text(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self._path.exists():
            self._path.write_text(f"the import of {report.nodeid}")


_SETTINGS = "_hypothesis_internal_use_settings"
"""Where Hypothesis keeps the settings of a test; there is no public way to change them."""


class _Finder(importlib.abc.MetaPathFinder):
    """Finds a mutant in the place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._mutant.module:
            return None
        loader = _Loader(self._mutant)
        return importlib.util.spec_from_file_location(name, loader.path, loader=loader)


class _Loader(SourceFileLoader):
    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(mutant.path))
        self._code = mutant.compiled()

    def get_code(self, fullname: str) -> CodeType:
        return self._code
