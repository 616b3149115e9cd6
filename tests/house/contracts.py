"""Two kinds of import contract that import-linter lacks; pyproject.toml says what they hold.

Both name modules by shell patterns (`runrig._wire*`) and let a pattern match nothing, so that a rule can stand
before the first module that it is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class ReservedContract(Contract):
    """Keep some modules for a few importers: nothing but `importers` may import `modules`."""

    type_name = "reserved"
    modules = fields.ListField(subfield=fields.StringField())
    importers = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002
        """Look at every direct import of the modules; a module may always import itself and its own parts."""
        reserved = _matching(graph, self.modules)
        allowed = reserved | _matching(graph, self.importers)
        illegal = [
            _describe(graph, importer, module)
            for module in sorted(reserved)
            for importer in sorted(graph.find_modules_that_directly_import(module) - allowed)
        ]
        return ContractCheck(kept=not illegal, metadata={"illegal": illegal})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line per import."""
        _render(check)


class PureContract(Contract):
    """Keep `impure` packages out of `modules`, on any path of imports."""

    type_name = "pure"
    modules = fields.ListField(subfield=fields.StringField())
    impure = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002
        """Search a chain of imports from each module to each impure package."""
        impure = sorted(_matching(graph, self.impure))
        chains = [
            " -> ".join(chain)
            for module in sorted(_matching(graph, self.modules))
            for package in impure
            if (chain := graph.find_shortest_chain(importer=module, imported=package))
        ]
        return ContractCheck(kept=not chains, metadata={"illegal": chains})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line per chain."""
        _render(check)


def _matching(graph: ImportGraph, patterns: object) -> set[str]:
    assert isinstance(patterns, Iterable)
    return {name for name in graph.modules for pattern in patterns if fnmatchcase(name, str(pattern))}


def _describe(graph: ImportGraph, importer: str, imported: str) -> str:
    lines = sorted({each["line_number"] for each in graph.get_import_details(importer=importer, imported=imported)})
    return f"{importer} -> {imported} (line {', '.join(map(str, lines))})"


def _render(check: ContractCheck) -> None:
    for line in check.metadata["illegal"]:
        output.print_error(f"- {line}", bold=False)
    output.new_line()
