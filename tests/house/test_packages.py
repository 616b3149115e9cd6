from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.house.tree import PACKAGES, ROOT, SDK, pyproject


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_tells_type_checkers_that_it_is_typed(package: Path) -> None:
    assert (package / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_goes_into_the_wheel(package: Path) -> None:
    wheel = pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert package.relative_to(ROOT).as_posix() in wheel["packages"]


def test_every_requirement_is_pinned_in_the_constraints() -> None:
    pinned = {canonicalize_name(line.split("==")[0]) for line in constraints()}

    missing = {canonicalize_name(each.name) for each in requirements()} - pinned

    assert missing == set(), "run make lock"


def test_the_pins_satisfy_the_requirements() -> None:
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in constraints())}

    unmet = [each for each in requirements() if not each.specifier.contains(pins[canonicalize_name(each.name)])]

    assert unmet == [], "run make lock"


def test_constraints_record_versions_and_no_addresses() -> None:
    assert [line for line in constraints() if not re.fullmatch(r"[a-z0-9._-]+==[a-z0-9.+]+", line)] == []


@pytest.mark.parametrize(
    "distribution, pattern",
    [
        ("protobuf", r"^# Protobuf Python Version: (.+)$"),
        ("grpcio", r"^GRPC_GENERATED_VERSION = '(.+)'$"),
    ],
)
def test_the_stubs_import_with_the_oldest_version_that_we_require(distribution: str, pattern: str) -> None:
    texts = [path.read_text() for path in sorted((SDK / "v1").glob("*_pb2*.py"))]
    generated_with = {Version(found) for text in texts for found in re.findall(pattern, text, re.MULTILINE)}

    [required] = [each for each in requirements() if each.name == distribution]

    assert generated_with, "no stub says what it was generated with"
    assert not required.specifier.contains(Version("0"))
    assert all(older_is_refused(required, version) for version in generated_with)


def older_is_refused(required: Requirement, version: Version) -> bool:
    """Say whether every release before `version` is refused: the floor is at it or above."""
    floors = [Version(each.version) for each in required.specifier if each.operator == ">="]
    return max(floors) >= version


def constraints() -> list[str]:
    """List the pins without comments and without the environments that they are for."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")]


def requirements() -> list[Requirement]:
    return [each for each in map(Requirement, declared()) if each.name != "runrig"]


def declared() -> Iterator[str]:
    project = pyproject()
    yield from project["project"]["dependencies"]
    for extra in project["project"]["optional-dependencies"].values():
        yield from extra
    for group in project["dependency-groups"].values():
        yield from group
