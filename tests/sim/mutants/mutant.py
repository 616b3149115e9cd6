"""What a planted bug is: one change of one file that an engineer could have made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


class Part(StrEnum):
    """Which part of Runrig a planted bug is in."""

    MASTER = "master"
    STORE = "store"
    AGENT = "agent"
    SESSION = "session"
    SERVICE = "service"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file` stands `new` for `old`, which is there exactly once; `also` has further such pairs in the same file."""

    name: str
    part: Part
    file: str
    old: str
    new: str
    within: int = 60
    """The stated bound: some seed below it fails. Of an equivalent one: how many are tried all the same."""
    equivalent: str = ""
    """Why no simulation can tell; empty: one must."""
    also: tuple[tuple[str, str], ...] = ()

    def plant(self, root: Path) -> None:
        """Change the file below `root`, which must not be the working tree."""
        assert root.resolve() != ROOT, "planted bugs are for copies"
        path = root / self.file
        path.write_text(self.planted(path.read_text()))

    def planted(self, text: str) -> str:
        """Return the file's text with the bug in it; raise AssertionError where the list has rotted."""
        for old, new in ((self.old, self.new), *self.also):
            count = text.count(old)
            assert count == 1, f"{self.name}: {count} times in {self.file}, once is right: {old!r}"
            text = text.replace(old, new)
        return text
