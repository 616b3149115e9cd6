from __future__ import annotations

import inspect
import re
import types

import runrig
from tests.house.tree import texts


def test_all_lists_every_public_name_once() -> None:
    names = exported()

    assert sorted(set(names)) == sorted(names)
    assert set(names) == public_names() | (set(names) & {"__version__"})


def test_every_public_class_and_function_has_a_docstring() -> None:
    silent = [name for name in exported() if is_code(getattr(runrig, name)) and not documentation(name)]

    assert silent == []


def test_every_public_name_is_in_the_docs() -> None:
    docs = "\n".join(text for path, text in texts().items() if path.startswith("docs/") and path.endswith(".md"))
    words = set(re.findall(r"\w+", docs))

    assert sorted(set(exported()) - words) == [], "name them in docs/, with what they are for"


def exported() -> list[str]:
    return list(getattr(runrig, "__all__", []))


def public_names() -> set[str]:
    """Name what `import runrig` offers: each is imported at its first use."""
    return {name for name in runrig._HOME_OF if not isinstance(getattr(runrig, name), types.ModuleType)}


def is_code(value: object) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def documentation(name: str) -> str:
    """Return the docstring that a person wrote: dataclasses and enums make one up when there is none."""
    value = getattr(runrig, name)
    text = (value.__doc__ if inspect.isroutine(value) else vars(value).get("__doc__")) or ""
    return "" if text.startswith(f"{name}(") else text
