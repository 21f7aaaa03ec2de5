"""Draw mutants by a seed, let the tests judge them, and say which survived."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from tests.mutation import equivalent
from tests.mutation.operators import Mutant, mutants
from tests.mutation.running import Fate, Tester, Verdict
from tests.mutation.targets import TARGETS, Target, path_of


def main() -> int:
    """Return 0 when enough mutants were killed."""
    options = _parser().parse_args()
    chosen = [target for target in TARGETS if not options.only or target.name in options.only]
    drawn = draw(chosen, options.mutants, options.seed)
    if options.again:
        survived = {tuple(key) for key in json.loads(options.again.read_text())}
        drawn = {target: [m for m in drawn[target] if m.key in survived] for target in drawn}
    known = equivalent.load()
    print(f"{sum(map(len, drawn.values()))} mutants, seed {options.seed}", flush=True)
    verdicts: dict[Target, list[Verdict]] = {target: [] for target in chosen}
    for target in chosen:
        for verdict in _judged(target, drawn[target], options.examples):
            verdicts[target].append(verdict)
            said = f"{verdict.fate.value:10} {verdict.seconds:5.1f} s  {verdict.by}"
            print(f"{verdict.mutant.module}:{verdict.mutant.line:<5} {said}", flush=True)
    survivors = [v.mutant for each in verdicts.values() for v in each if v.fate is Fate.SURVIVED]
    if options.save:
        options.save.write_text(json.dumps([mutant.key for mutant in survivors], indent=1))
    _report_survivors(survivors, known)
    return 0 if _report(verdicts, known) >= options.at_least / 100 else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.mutation", description=__doc__)
    names = [target.name for target in TARGETS]
    parser.add_argument("--seed", type=int, default=1, help="what the draw depends on")
    parser.add_argument("--mutants", type=int, default=300, help="how many are drawn of all")
    parser.add_argument("--examples", type=int, default=25, help="of a property test, at most")
    parser.add_argument("--only", action="append", choices=names, help="of this target alone")
    parser.add_argument("--at-least", type=float, default=85.0, help="per cent that must be killed")
    parser.add_argument("--save", type=Path, help="write the survivors here, for --again")
    parser.add_argument("--again", type=Path, help="only those that an earlier run saved here")
    return parser


def draw(targets: Sequence[Target], count: int, seed: int) -> dict[Target, list[Mutant]]:
    """Return `count` mutants, as many of each target as there are, in the order of the code."""
    every: dict[Target, list[Mutant]] = {}
    for target in targets:
        every[target] = [
            mutant for module in target.modules for mutant in mutants(module, path_of(module))
        ]
        # a seed of its own for each target: a change to one leaves the draws of others alone
        random.Random(f"{seed} {target.name}").shuffle(every[target])
    drawn: dict[Target, list[Mutant]] = {target: [] for target in targets}
    while count and any(every.values()):
        for target in targets:
            if count and every[target]:
                drawn[target].append(every[target].pop())
                count -= 1
    return {t: sorted(drawn[t], key=lambda m: (m.module, m.line)) for t in targets}


def _judged(target: Target, drawn: Sequence[Mutant], examples: int) -> Iterator[Verdict]:
    """Yield what the tests say of each mutant; a fresh process imports what they need."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_judge, args=(target, drawn, examples, sending))
    process.start()
    sending.close()
    for _ in drawn:
        try:
            yield receiving.recv()
        except EOFError:
            raise SystemExit(f"{target.name}: ended early") from None
    process.join()


def _judge(target: Target, drawn: Sequence[Mutant], examples: int, sending: Connection) -> None:
    tester = Tester(target, examples)
    for mutant in drawn:
        sending.send(tester.judge(mutant))


def _report_survivors(survivors: Sequence[Mutant], known: equivalent.Reasons) -> None:
    for mutant in survivors:
        reason = known.get(mutant.key)
        print(f"\n{mutant}" + (f"\n    equivalent: {reason}" if reason else ""))


def _report(verdicts: dict[Target, list[Verdict]], known: equivalent.Reasons) -> float:
    """Print a table; return the share killed of those that are not equivalent."""
    print(f"\n{'':16}{'mutants':>9}{'killed':>9}{'survived':>10}{'equivalent':>12}{'score':>9}")
    rows = [*((target.name, of) for target, of in verdicts.items() if of)]
    everything = [verdict for _, of in rows for verdict in of]
    for name, of in [*rows, ("all", everything)]:
        survived = [verdict.mutant for verdict in of if verdict.fate is Fate.SURVIVED]
        same = sum(mutant.key in known for mutant in survived)
        killed = len(of) - len(survived)
        score = killed / max(1, len(of) - same)
        left = len(survived) - same
        print(f"{name:16}{len(of):9}{killed:9}{left:10}{same:12}{score:9.1%}")
    return score


if __name__ == "__main__":
    sys.exit(main())
