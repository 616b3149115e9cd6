"""Two kinds of import contract that import-linter lacks; pyproject.toml says what they hold.

Both name modules by shell patterns: `runrig._wire*` is `runrig._wire`, `runrig._wire_tasks` and all that is
in them. A pattern may match nothing, so that a rule can stand before the first module that it is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class ReservedContract(Contract):
    """Keep `modules` for a few: only `importers` and the modules themselves may import them."""

    type_name = "reserved"
    modules = fields.ListField(subfield=fields.StringField())
    importers = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at every direct import of the modules."""
        reserved = _matching(graph, self.modules)
        allowed = reserved | _matching(graph, self.importers)
        return _verdict(
            f"{importer} -> {module} (line {_lines(graph, importer, module)})"
            for module in sorted(reserved)
            for importer in sorted(graph.find_modules_that_directly_import(module) - allowed)
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line per import."""
        _print_illegal(check)


class UnreachableContract(Contract):
    """Keep some modules away from others: no path of imports leads from `modules` to `targets`."""

    type_name = "unreachable"
    modules = fields.ListField(subfield=fields.StringField())
    targets = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Search the shortest path from each module to each target."""
        targets = sorted(_matching(graph, self.targets))
        return _verdict(
            " -> ".join(path)
            for module in sorted(_matching(graph, self.modules))
            for target in targets
            if (path := graph.find_shortest_chain(importer=module, imported=target))
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line per path."""
        _print_illegal(check)


def _matching(graph: ImportGraph, patterns: object) -> set[str]:
    return {
        name
        for name in graph.modules
        for pattern in cast("list[str]", patterns)
        if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
    }


def _lines(graph: ImportGraph, importer: str, imported: str) -> str:
    details = graph.get_import_details(importer=importer, imported=imported)
    return ", ".join(str(each["line_number"]) for each in details)


def _verdict(illegal: Iterable[str]) -> ContractCheck:
    found = list(illegal)
    return ContractCheck(kept=not found, metadata={"illegal": found})


def _print_illegal(check: ContractCheck) -> None:
    for line in check.metadata["illegal"]:
        output.print_error(f"- {line}", bold=False)
    output.new_line()
