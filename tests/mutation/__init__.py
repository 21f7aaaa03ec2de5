"""A mutation tester: it breaks the code in small ways and sees whether a test notices.

    python -m tests.mutation --seed 1 --mutants 300

Mutants are drawn by a seed, so a run can be repeated. A mutant that no test notices has survived:
either a test is missing, or the change makes no difference and belongs in `equivalent.toml`.
"""
