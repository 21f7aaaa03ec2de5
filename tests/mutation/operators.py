"""Every mutant of a source text: one small change each, the kind of mistake that people make."""

from __future__ import annotations

import ast
import copy
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.MatMult: ast.Mult,
}
_OPPOSITES = {
    one: other
    for pair in (("min", "max"), ("minimum", "maximum"), ("floor", "ceil"), ("any", "all"))
    for one, other in (pair, pair[::-1])
}
_SCALE = 1.5
"""What a number that is not whole is multiplied and divided by."""


@dataclass(frozen=True)
class Mutant:
    """One change to one module."""

    module: str
    path: Path
    line: int
    """Where the change begins, from 1."""
    before: str
    """The lines that it touches, as they are."""
    after: str
    source: str
    """The whole module with the change in it."""

    def compiled(self) -> CodeType:
        return compile(self.source, str(self.path), "exec", dont_inherit=True)

    @property
    def key(self) -> tuple[str, str, str]:
        """What names this mutant even when lines above it come or go."""
        return self.module, " ".join(self.before.split()), " ".join(self.after.split())

    def __str__(self) -> str:
        changed = list(difflib.ndiff(self.before.splitlines(), self.after.splitlines()))
        shown = [line for line in changed if line[0] in "+-"]
        return "\n".join([f"{self.module}:{self.line}", *(f"    {line}" for line in shown)])


def mutants(module: str, path: Path) -> list[Mutant]:
    """Return every mutant of the `module` at `path`, in its order; each is valid Python."""
    source = path.read_text(encoding="utf-8")
    text = _Text(module, path, source)
    made = (text.mutant(node, replacement) for node, replacement in _changes(ast.parse(source)))
    return list({mutant.source: mutant for mutant in made if mutant.source != source}.values())


class _Text:
    """A source text whose nodes can be replaced; columns of `ast` count bytes."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        self._module, self._path = module, path
        self._bytes = source.encode()
        self._lines = source.splitlines()
        self._start = [0]
        for line in self._bytes.splitlines(keepends=True):
            self._start.append(self._start[-1] + len(line))

    def mutant(self, node: ast.stmt | ast.expr, replacement: str) -> Mutant:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = self._start[node.lineno - 1] + node.col_offset
        end = self._start[node.end_lineno - 1] + node.end_col_offset
        source = b"".join([self._bytes[:begin], replacement.encode(), self._bytes[end:]]).decode()
        first, last = node.lineno - 1, node.end_lineno
        removed = len(self._lines) - len(source.splitlines())
        before = "\n".join(self._lines[first:last])
        after = "\n".join(source.splitlines()[first : last - removed])
        return Mutant(self._module, self._path, node.lineno, before, after, source)


def _changes(tree: ast.Module) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """Yield (node, the text that takes its place)."""
    for node in _worth_changing(tree):
        if isinstance(node, ast.expr):
            for changed in _expressions(node):
                text = ast.unparse(ast.fix_missing_locations(changed))
                yield node, text if isinstance(changed, ast.Constant | ast.Call) else f"({text})"
        if isinstance(node, ast.stmt):
            yield from ((node, text) for text in _statements(node))
        for condition in _conditions(node):
            yield condition, f"(not ({ast.unparse(condition)}))"
        for bound in _bounds(node):
            yield bound, f"({ast.unparse(bound)} + 1)"


def _worth_changing(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below `node` that say what happens, not what is said, declared or checked."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_mute(child):
                yield child
                yield from _worth_changing(child)


def _is_mute(node: ast.AST) -> bool:
    """Whether nothing is gained by a change here: messages, imports, names of types, asserts."""
    match node:
        case ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Assert():
            return True
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
            return True
        case ast.Call(func=ast.Name(id="isinstance" | "cast")):
            return True
        case ast.match_case(pattern=ast.MatchClass()):
            return False
        case ast.pattern():
            return True
        case _:
            return False


# Expressions


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    """Yield what `node` may be replaced by."""
    match node:
        case ast.Compare():
            for k, operator in enumerate(node.ops):
                if other := _COMPARISONS.get(type(operator)):
                    changed = copy.deepcopy(node)
                    changed.ops[k] = other()
                    yield changed
        case ast.BinOp():
            yield ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(value=float(value)):
            yield from map(ast.Constant, (value * _SCALE, value / _SCALE) if value else (1.0,))
        case ast.Call():
            yield from _calls(node)
        case ast.Dict(keys, values):
            for k in range(len(keys)):
                yield ast.Dict(keys[:k] + keys[k + 1 :], values[:k] + values[k + 1 :])
        case _:
            pass


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    match node.func:
        case ast.Name(id=name) if name in _OPPOSITES:
            yield ast.Call(ast.Name(_OPPOSITES[name]), node.args, node.keywords)
        case ast.Attribute(value=value, attr=name) if name in _OPPOSITES:
            yield ast.Call(ast.Attribute(value, _OPPOSITES[name]), node.args, node.keywords)
        case _:
            pass
    for k, keyword in enumerate(node.keywords):
        if keyword.arg not in (None, "dtype", "strict"):
            yield ast.Call(node.func, node.args, node.keywords[:k] + node.keywords[k + 1 :])


def _bounds(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what bounds a range or a slice; numbers are changed where they stand."""
    match node:
        case ast.Call(func=ast.Name(id="range") | ast.Attribute(attr="arange"), args=args):
            bounds: list[ast.expr | None] = [*args[:2]]
        case ast.Slice(lower=lower, upper=upper):
            bounds = [lower, upper]
        case _:
            return
    yield from (each for each in bounds if each and not isinstance(each, ast.Constant))


def _conditions(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what decides in `node`, where turning it round is not a change made elsewhere."""
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            tests = [test]
        case ast.comprehension(ifs=ifs):
            tests = ifs
        case _:
            return
    for test in tests:
        match test:
            case ast.UnaryOp(op=ast.Not()):
                pass
            case ast.Compare(ops=[ast.Eq() | ast.NotEq() | ast.Is() | ast.IsNot()]):
                pass
            case ast.Compare(ops=[ast.In() | ast.NotIn()]):
                pass
            case _:
                yield test


# Statements


def _statements(node: ast.stmt) -> Iterator[str]:
    """Yield what `node` may be replaced by."""
    match node:
        case ast.Expr(value=ast.Yield() | ast.YieldFrom()):
            yield "yield from ()"
        case ast.Expr() | ast.Raise() | ast.Continue() | ast.Break() | ast.Delete():
            yield "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "pass"
        case ast.AugAssign():
            operator = _ARITHMETIC[type(node.op)]()
            yield ast.unparse(ast.AugAssign(node.target, operator, node.value))
            yield "pass"
        case ast.Return(value=value) if value is not None:
            yield from _returns(value)
        case _:
            pass


def _returns(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Constant():
            return  # changed where it stands, or None
        case ast.List() | ast.ListComp() if not isinstance(value, ast.List) or value.elts:
            yield "return []"
        case ast.Dict() | ast.DictComp() if not isinstance(value, ast.Dict) or value.keys:
            yield "return {}"
        case _:
            yield "return None"
