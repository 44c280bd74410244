"""What one function of a program needs at its top level; the rest need not run.

An answer of a chat model often demonstrates its function below it: calls, prints, `input()`, tests.
Nothing here runs the program. Time grows linearly with the text.
"""

import ast
import builtins
import symtable
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# Calls that set up the interpreter, and so work on a function that does not name them.
SETTINGS = frozenset(
    (
        "setrecursionlimit",
        "set_int_max_str_digits",
        "stack_size",
        "seed",
        "getcontext",
        "setcontext",
        "seterr",
    )
)
# With one of these, a program can use a name that its text does not show as one.
_HIDDEN_USES = frozenset(("eval", "exec", "globals", "locals", "vars", "__import__"))
_BUILTINS = frozenset(dir(builtins))
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SCOPES = (*_DEFINITIONS, ast.Lambda)


@dataclass
class _Statement:
    """One statement at the top level, and the names it has to do with.

    `binds` are given a value, `changes` are changed in place, `uses` are read now or in a call,
    `calls` are called; see `_called`.
    """

    node: ast.stmt
    binds: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    uses: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)


def needed(tree: ast.Module, source: str, entry_point: str) -> list[ast.stmt] | None:
    """Return the top-level statements that the function `entry_point` needs, in their order.

    That is its definition, what defines or fills the names that it uses, what these need in turn,
    and settings such as the recursion limit. None where it cannot be told: for source that does not
    compile, or where a name may be used in a way that its text does not show.
    """
    lines = byte_lines(source)
    try:
        statements = [_read(node, lines, entry_point) for node in tree.body]
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return None
    imported = {
        name
        for statement in statements
        if isinstance(statement.node, (ast.Import, ast.ImportFrom))
        for name in statement.binds
    }
    functions = {
        statement.node.name: statement
        for statement in statements
        if isinstance(statement.node, _DEFINITIONS)
    }
    entry_at = max((at for at, one in enumerate(statements) if entry_point in one.binds), default=0)
    makers: dict[str, list[int]] = {}
    for at, statement in enumerate(statements):
        if _is_demonstration(statement, entry_point):
            continue
        names = statement.binds - (_BUILTINS if at > entry_at else frozenset())
        changed = statement.changes - imported
        if not isinstance(statement.node, _DEFINITIONS):
            changed |= _changed_by_calls(statement, functions, entry_point)
        for name in names | changed:
            makers.setdefault(name, []).append(at)
    kept = {at for at, one in enumerate(statements) if _always(one, entry_point)}
    open_names = [entry_point, *(name for at in kept for name in statements[at].uses)]
    known: set[str] = set()
    while open_names:
        name = open_names.pop()
        if name in known:
            continue
        known.add(name)
        for at in makers.get(name, ()):
            if at not in kept:
                kept.add(at)
                open_names.extend(statements[at].uses)
    if known & _HIDDEN_USES:
        return None
    return [statements[at].node for at in sorted(kept)]


def byte_lines(source: str) -> list[bytes]:
    """Return the lines of a source as the bytes that places in a syntax tree count."""
    return source.encode("utf-8", "surrogatepass").split(b"\n")


def text_of(node: ast.stmt, lines: list[bytes]) -> str:
    """Return the lines of a statement; of a line with several, only its own part."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    assert node.end_lineno is not None
    own = lines[first - 1 : node.end_lineno]
    own[-1] = own[-1][: node.end_col_offset]
    own[0] = own[0][0 if decorators else node.col_offset :]
    return b"\n".join(own).decode("utf-8", "surrogatepass")


def _is_demonstration(statement: _Statement, entry_point: str) -> bool:
    """Tell whether a statement only shows the function, asks for input, or is for scripts."""
    node = statement.node
    shown = isinstance(node, ast.Expr) and entry_point in statement.calls
    script = isinstance(node, ast.If) and "__name__" in statement.uses
    asks = "input" in statement.calls and not isinstance(node, _DEFINITIONS)
    return shown or script or asks or isinstance(node, ast.Assert)


def _always(statement: _Statement, entry_point: str) -> bool:
    """Tell whether a statement is kept without being asked for: settings, and `import *`."""
    node = statement.node
    if isinstance(node, ast.ImportFrom):
        return node.names[0].name == "*"
    setting = (
        isinstance(node, (ast.Expr, ast.Assign))
        and {call.lstrip(".") for call in statement.calls} & SETTINGS
    )
    return bool(setting) and entry_point not in statement.calls


def _changed_by_calls(
    statement: _Statement, functions: dict[str, _Statement], entry_point: str
) -> set[str]:
    """Return what the program's own functions change when this statement calls them."""
    changed: set[str] = set()
    waiting, seen = list(statement.calls), {entry_point}
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        changed |= functions[name].changes
        waiting += functions[name].calls
    return changed


def _read(node: ast.stmt, lines: list[bytes], entry_point: str) -> _Statement:
    statement = _Statement(node)
    table = symtable.symtable(text_of(node, lines), "answer", "exec")
    for symbol in table.get_symbols():
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
            statement.binds.add(symbol.get_name())
        if symbol.is_referenced():
            statement.uses.add(symbol.get_name())
    set_inside: set[str] = set()
    for inner in _inner_tables(table):
        for symbol in inner.get_symbols():
            if symbol.is_global():
                statement.uses.add(symbol.get_name())
                if symbol.is_assigned():
                    set_inside.add(symbol.get_name())
    inside = isinstance(node, _DEFINITIONS)
    for part in ast.walk(node) if inside else _outer_parts(node):
        statement.changes |= _changed(part)
        if isinstance(part, ast.Call):
            statement.calls.add(_called(part))
            if _called(part) not in _BUILTINS and _called(part) != entry_point:
                arguments = [*part.args, *(keyword.value for keyword in part.keywords)]
                statement.changes.update(arg.id for arg in arguments if isinstance(arg, ast.Name))
    statement.changes |= set_inside
    if inside:  # of what a definition touches, only global names are of use to others
        statement.changes &= statement.uses
    return statement


def _inner_tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    waiting = list(table.get_children())
    while waiting:
        inner = waiting.pop()
        yield inner
        waiting += inner.get_children()


def _outer_parts(node: ast.stmt) -> Iterator[ast.AST]:
    """Yield the parts of a statement that run with it: not the bodies of functions."""
    waiting: list[ast.AST] = [node]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [inner for inner in ast.iter_child_nodes(part) if not isinstance(inner, _SCOPES)]


def _changed(part: ast.AST) -> set[str]:
    """Return the name whose object this part changes: by an item, an attribute or a method."""
    targets: Iterable[ast.AST] = ()
    if isinstance(part, (ast.Subscript, ast.Attribute)) and not isinstance(part.ctx, ast.Load):
        targets = [part.value]
    elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
        targets = [part.func.value]
    names = set()
    for target in targets:
        while isinstance(target, (ast.Subscript, ast.Attribute)):
            target = target.value
        if isinstance(target, ast.Name):
            names.add(target.id)
    return names


def _called(call: ast.Call) -> str:
    """Return the name of what is called, with a dot in front for an attribute."""
    if isinstance(call.func, ast.Name):
        return call.func.id
    return f".{call.func.attr}" if isinstance(call.func, ast.Attribute) else ""
