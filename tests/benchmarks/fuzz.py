"""The fuzzing that CI does, with many more cases.

    python -m tests.benchmarks.fuzz [CASES]

What schemathesis did and found, and how many files were damaged, is printed.
"""

from __future__ import annotations

import os
import sys

import pytest

from tests.benchmarks.measuring import describe_machine


def main() -> None:
    os.environ["FUZZ_CASES"] = sys.argv[1] if len(sys.argv) > 1 else "5000"
    print(describe_machine())
    sys.exit(pytest.main(["-v", "-rP", "--timeout=0", "tests/protocol/test_fuzz.py"]))


if __name__ == "__main__":
    main()
