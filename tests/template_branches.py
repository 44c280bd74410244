"""A Jinja2 environment that notes which branches of a template were rendered."""

import jinja2
from jinja2 import nodes


class Reached:
    """Every branch of the templates that were loaded, and those that were rendered."""

    def __init__(self) -> None:
        self.every: dict[str, str] = {}
        self.seen: set[str] = set()

    def mark(self, key: str) -> str:
        """Note that a branch was rendered; it prints nothing."""
        self.seen.add(key)
        return ""

    def missing(self) -> list[str]:
        """Return where the branches stand that were never rendered."""
        return sorted(self.every[key] for key in self.every.keys() - self.seen)


def noting(environment: jinja2.Environment, reached: Reached) -> jinja2.Environment:
    """Return the environment; what it renders is noted in `reached`.

    Branches are those of if, elif and else, of conditional expressions, and the bodies of loops.
    """

    class Noting(jinja2.Environment):
        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree = super()._parse(source, name, filename)
            branching = list(tree.find_all((nodes.If, nodes.For, nodes.CondExpr)))
            for number, node in enumerate(branching):
                _note(node, number, source.splitlines(), reached)
            return tree

    environment.__class__ = Noting
    environment.globals["reached_branch"] = reached.mark
    return environment


def _call(key: str, line: int) -> nodes.Call:
    name = nodes.Name("reached_branch", "load", lineno=line)
    return nodes.Call(name, [nodes.Const(key, lineno=line)], [], None, None, lineno=line)


def _note(node: nodes.Node, number: int, lines: list[str], reached: Reached) -> None:
    line = node.lineno
    parts = ("expr1", "expr2") if isinstance(node, nodes.CondExpr) else ("body", "else_")
    for part in parts:
        content = getattr(node, part)
        if not content:
            continue
        key = f"{number}:{part}"
        reached.every[key] = f"line {line} ({part}): {lines[line - 1].strip()[:110]}"
        if isinstance(node, nodes.CondExpr):
            setattr(node, part, nodes.Concat([_call(key, line), content], lineno=line))
        else:
            content.insert(0, nodes.Output([_call(key, line)], lineno=line))
