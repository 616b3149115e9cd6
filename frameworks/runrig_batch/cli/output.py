"""What tasks write, printed: stdout to stdout, the rest to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from runrig.cli.output import hint, plain


def print_pieces(pieces: Iterable[tuple[str, bytes]]) -> None:
    """Print pieces of output as they come, and notes as hints."""
    for kind, data in pieces:
        if kind == "note":
            hint(f"runrig: {plain(data.decode(errors='replace'))}")
        else:
            target = sys.stdout.buffer if kind == "stdout" else sys.stderr.buffer
            target.write(data)
            target.flush()
