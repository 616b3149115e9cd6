from __future__ import annotations

import re
from collections.abc import Iterator

from tests.house.tree import ROOT, texts

FENCED = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
DECISION = re.compile(r"docs/decisions/(\d{4})-[a-z0-9-]+\.md")


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = {path: FENCED.sub("", text) for path, text in texts().items() if path.endswith(".md")}

    dead = [f"{path}: {target}" for path, text in pages.items() for target in links(text) if is_dead(path, target)]

    assert dead == []


def test_decisions_are_numbered_without_gaps_or_twins() -> None:
    pages = sorted(path for path in texts() if path.startswith("docs/decisions/") and not path.endswith("README.md"))

    names = [DECISION.fullmatch(path) for path in pages]

    assert [path for path, name in zip(pages, names, strict=True) if name is None] == []
    assert [int(name[1]) for name in names if name] == list(range(1, len(pages) + 1))


def test_the_changelog_begins_with_what_is_not_released_yet() -> None:
    versions = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert versions[0] == "[Unreleased]"
    assert [each for each in versions[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", each)] == []


def links(text: str) -> Iterator[str]:
    """Yield the targets within this tree: addresses of other sites are not ours to test."""
    for target in LINK.findall(CODE.sub("", text)):
        if not re.match(r"[a-z]+:", target):
            yield target


def is_dead(page: str, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    if not file.exists():
        return True
    return bool(anchor) and file.suffix == ".md" and anchor not in anchors(file.read_text())


def anchors(text: str) -> set[str]:
    """Name the headings of a page as its readers' links do: lower case, hyphens, no punctuation."""
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in HEADING.findall(FENCED.sub("", text))}
