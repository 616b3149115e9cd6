from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runrig.errors import InvalidInput, NotFound
from runrig_agent.sandbox_paths import Owner, directory_inside, opened_inside, safe_name

LETTERS = st.characters(exclude_characters="/", exclude_categories=["Cc", "Cs"])
IDS = st.text(LETTERS, min_size=1, max_size=255)


@given(IDS)
def test_a_name_is_a_plain_visible_file_name_whatever_the_id(value: str) -> None:
    name = safe_name(value)

    assert name.isascii()
    assert 0 < len(name) <= 200
    assert "/" not in name
    assert not name.startswith(".")


@given(st.sets(IDS, min_size=2, max_size=20))
def test_different_ids_have_different_names(values: set[str]) -> None:
    assert len({safe_name(value) for value in values}) == len(values)


def test_a_plain_id_is_its_own_name() -> None:
    assert safe_name("web-7_b@eu.3") == "web-7_b@eu.3"


@pytest.mark.parametrize("value", ["..", ".", ".trash", "a:b", "a,b", "a b", "a~b", "%2E%2E", "é"])
def test_an_odd_id_is_encoded(value: str) -> None:
    assert safe_name(value) != value


def test_long_ids_that_differ_at_their_ends_have_different_names() -> None:
    assert safe_name("é" * 254 + "a") != safe_name("é" * 254 + "b")


def test_a_file_is_found_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/a").write_text("text")

    with opened_inside(tmp_path, "logs//./a") as opened:
        descriptor = opened.reopen()

    assert opened.path == "logs/a"
    assert opened.status.st_size == 4
    assert os.read(descriptor, 10) == b"text"
    os.close(descriptor)


@pytest.mark.parametrize("path", ["", "."])
def test_nothing_is_the_sandbox_itself(tmp_path: Path, path: str) -> None:
    with opened_inside(tmp_path, path) as opened:
        assert opened.path == "."


def test_a_link_within_the_sandbox_is_followed(tmp_path: Path) -> None:
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1/out").write_text("text")
    (tmp_path / "latest").symlink_to("run-1")

    with opened_inside(tmp_path, "latest/out") as opened:
        assert opened.path == "run-1/out"


@pytest.mark.parametrize("path", ["/etc/passwd", "..", "a/../../x", "../sandbox-2/x", "a\0b", "//", "x/.."])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidInput, match=r"path: .* within the sandbox"), opened_inside(tmp_path, path):
        pass


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "/proc/self/environ", "/proc/self/cwd", "/"])
def test_a_link_that_leads_out_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_text("of another")
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    (sandbox / "link").symlink_to(target)

    with pytest.raises(InvalidInput, match="links that lead out"), opened_inside(sandbox, "link"):
        pass


def test_a_folder_that_is_a_link_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sandbox-2").mkdir()
    (tmp_path / "sandbox-2/secret").write_text("of another")
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    (sandbox / "folder").symlink_to("../sandbox-2")

    with pytest.raises(InvalidInput), opened_inside(sandbox, "folder/secret"):
        pass


def test_links_that_lead_round_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(InvalidInput), opened_inside(tmp_path, "a"):
        pass


@pytest.mark.parametrize("path", ["none", "file/below", "none/below"])
def test_what_is_not_there_is_not_found(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(NotFound), opened_inside(tmp_path, path):
        pass


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with opened_inside(tmp_path, "pipe") as opened:
        assert not os.path.isfile(f"/proc/self/fd/{opened.descriptor}")


def test_a_directory_is_never_made_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("../elsewhere")
    descriptor = os.open(root, os.O_RDONLY)

    with pytest.raises(NotADirectoryError), directory_inside(descriptor, ["link", "below"], Owner.of(root)):
        pass

    os.close(descriptor)
    assert list((tmp_path / "elsewhere").iterdir()) == []
