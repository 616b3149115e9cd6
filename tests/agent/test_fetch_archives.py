from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runrig.tasks import Fetch, Reason
from runrig_agent.fetch_archives import ArchiveRefused, Bounds, NotWanted, unpack
from runrig_agent.runtime import LaunchFailed
from runrig_agent.sandbox_paths import Owner
from tests.agent.test_fetch import allowing, fetch

BYTES_MAX = 1_000_000
FILES_MAX = 100
PACK: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


def tar(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """Pack files, given as name and content, and members of any other kind."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for each in members:
            if isinstance(each, tarfile.TarInfo):
                archive.addfile(each)
            else:
                info = tarfile.TarInfo(each[0])
                info.size, info.mode = len(each[1]), 0o644
                archive.addfile(info, io.BytesIO(each[1]))
    return buffer.getvalue()


def member(name: str, kind: bytes, target: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def link(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, target)


def zipped(*members: tuple[str, bytes], mode: int = 0o644, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, data)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "outer/folder"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    return folder


def unpacked(folder: Path, archive: bytes, is_wanted: Callable[[], bool] = lambda: True) -> dict[str, bytes]:
    """Unpack; return the files and their content."""
    path = folder.parent.parent / "archive"
    path.write_bytes(archive)
    unpack(path, folder, Bounds(BYTES_MAX, FILES_MAX, is_wanted), Owner.of(folder))
    found = (each for each in folder.rglob("*") if each.is_file() and not each.is_symlink())
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in found}


def refusal(folder: Path, archive: bytes) -> str:
    """Unpack what must be refused; nothing may have left the folder."""
    outside = {path for path in folder.parent.parent.rglob("*") if folder not in path.parents} - {folder}
    with pytest.raises(ArchiveRefused) as refused:
        unpacked(folder, archive)
    now = {path for path in folder.parent.parent.rglob("*") if folder not in path.parents} - {folder}
    assert {path.name for path in now - outside} <= {"archive"}
    assert (folder.parent.parent / "secret").read_text() == "secret"
    return str(refused.value)


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK.keys())
def test_tars_are_unpacked(folder: Path, pack: Callable[[bytes], bytes]) -> None:
    long = "deep/" * 20 + "x" * 150
    archive = pack(tar(("./a", b"one"), ("b/c", os.urandom(300_000)), (long, b"two"), ("empty", b"")))

    found = unpacked(folder, archive)

    assert set(found) == {"a", "b/c", long, "empty"}
    assert found["a"] == b"one"
    assert len(found["b/c"]) == 300_000
    assert found[long] == b"two"


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_files_packed_in_several_streams_are_unpacked(folder: Path, kind: str) -> None:
    whole = tar(("a", b"x" * 200_000))
    pieces = [PACK[kind](whole[begin : begin + 50_000]) for begin in range(0, len(whole), 50_000)]

    assert unpacked(folder, b"".join(pieces)) == {"a": b"x" * 200_000}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_zips_are_unpacked(folder: Path, method: int) -> None:
    assert unpacked(folder, zipped(("a", b"one"), ("b/c", b"two"), ("d/", b""), method=method)) == {
        "a": b"one",
        "b/c": b"two",
    }
    assert (folder / "d").is_dir()


def test_modes_keep_what_they_may(folder: Path) -> None:
    run = tarfile.TarInfo("run")
    run.mode = 0o6755
    unpacked(folder, tar(run, member("closed", tarfile.REGTYPE, mode=0)))

    assert (folder / "run").stat().st_mode & 0o7777 == 0o755
    assert (folder / "closed").stat().st_mode & 0o7777 == 0o600


def test_links_within_are_made(folder: Path) -> None:
    hard = member("hard", tarfile.LNKTYPE, "lib/so.1")
    unpacked(folder, tar(("lib/so.1", b"x"), link("lib/so", "so.1"), link("bin/so", "../lib/so"), hard))

    assert (folder / "bin/so").read_bytes() == b"x"
    assert (folder / "hard").samefile(folder / "lib/so.1")


def test_a_later_member_of_a_name_replaces_the_earlier(folder: Path) -> None:
    archive = tar(("a", b"one"), link("b", "a"), ("b", b"two"))

    assert unpacked(folder, archive) == {"a": b"one", "b": b"two"}


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a/..", ".."])
@pytest.mark.parametrize("pack", [tar, zipped])
def test_a_member_that_leads_out_is_refused(folder: Path, name: str, pack: Callable[..., bytes]) -> None:
    assert "leads out of the folder" in refusal(folder, pack((name, b"x")))


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../x", "a/../../x", "d/..", "./../x", ""])
def test_a_link_that_leads_out_or_could_is_refused(folder: Path, target: str) -> None:
    assert "leads out" in refusal(folder, tar(link("link", target)))
    assert "leads out" in refusal(folder, zipped(("link", target.encode()), mode=stat.S_IFLNK | 0o777))


def test_a_chain_of_links_does_not_lead_out(folder: Path) -> None:
    assert "leads out" in refusal(folder, tar(link("x/b", ".."), link("y", "x/b/..")))
    assert "in its way" in refusal(folder, tar(link("d/s", ".."), link("d/s/l", "../..")))


def test_nothing_is_written_through_a_link(folder: Path) -> None:
    archive = tar(("real/a", b"x"), link("link", "real"), ("link/b", b"x"))

    assert "in its way" in refusal(folder, archive)


def test_a_hard_link_to_a_file_outside_is_refused(folder: Path) -> None:
    for target in ("/etc/passwd", "../../secret", "none", "hard", ""):
        refusal(folder, tar(member("hard", tarfile.LNKTYPE, target)))


def test_a_hard_link_to_a_link_is_refused(folder: Path) -> None:
    assert "no file before it" in refusal(folder, tar(link("a", "b"), member("hard", tarfile.LNKTYPE, "a")))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_is_refused(folder: Path, kind: bytes) -> None:
    assert "neither file, directory nor link" in refusal(folder, tar(member("device", kind)))


def test_a_file_where_a_directory_is_needed_is_refused(folder: Path) -> None:
    assert "in its way" in refusal(folder, tar(("a", b"x"), ("a/b", b"x")))


def test_a_directory_is_not_replaced_by_a_file(folder: Path) -> None:
    assert "in its way" in refusal(folder, tar(("a/b", b"x"), ("a", b"x")))


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK.keys())
def test_a_bomb_is_stopped_at_the_bound(folder: Path, pack: Callable[[bytes], bytes]) -> None:
    assert "larger than 1000000 bytes" in refusal(folder, pack(tar(("bomb", bytes(50_000_000)))))
    assert (folder / "bomb").stat().st_size <= BYTES_MAX


def test_a_zip_bomb_is_stopped_at_the_bound(folder: Path) -> None:
    archive = zipped(("1", bytes(600_000)), ("2", bytes(600_000)))

    assert "larger than 1000000 bytes" in refusal(folder, archive)


def test_a_bomb_of_files_is_stopped_at_the_bound(folder: Path) -> None:
    assert "more than 100 files" in refusal(folder, tar(*((f"{number}", b"") for number in range(101))))


def test_a_bomb_of_folders_is_stopped_at_the_bound(folder: Path) -> None:
    deep = [(f"{number}/" + "d/" * 50 + "x", b"") for number in range(10)]

    assert "more than 100 files" in refusal(folder, tar(*deep))


def test_a_path_that_is_too_deep_is_refused(folder: Path) -> None:
    assert "too deep" in refusal(folder, tar(("d/" * 70 + "x", b"")))


def test_a_header_that_claims_gigabytes_is_not_read(folder: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 4 * 1024**3

    assert "header is longer" in refusal(folder, header.tobuf(tarfile.USTAR_FORMAT) + bytes(2_000_000))


def test_headers_without_end_are_refused(folder: Path) -> None:
    name = b"n" * 1_000_000
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, len(name)
    one = header.tobuf(tarfile.GNU_FORMAT) + name.ljust(1_000_448, b"\0")

    refusal(folder, gzip.compress(one * 20, 1))


def test_a_sparse_file_counts_with_its_holes(folder: Path) -> None:
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1"}
    info.pax_headers |= {"GNU.sparse.size": str(10**12), "GNU.sparse.name": "sparse"}
    info.size = 1
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"x"))

    assert "larger than 1000000 bytes" in refusal(folder, buffer.getvalue())


def test_a_zip_whose_table_claims_gigabytes_is_not_read(folder: Path) -> None:
    archive = zipped(("a", b"x"))
    end = archive.rindex(b"PK\5\6")
    huge = archive[:end] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 2**31, 0, 0)

    refusal(folder, huge)


def test_an_encrypted_zip_is_refused(folder: Path) -> None:
    archive = bytearray(zipped(("a", b"x")))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        archive[archive.index(signature) + offset] |= 1

    assert "encrypted" in refusal(folder, bytes(archive))


def test_a_zip_packed_with_lzma_is_refused(folder: Path) -> None:
    assert "use deflate" in refusal(folder, zipped(("a", b"x"), method=zipfile.ZIP_LZMA))


def test_an_xz_that_asks_for_gigabytes_of_memory_is_refused(folder: Path) -> None:
    filters = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 * 1024**2}

    assert "Memory usage limit" in refusal(folder, lzma.compress(b"x", filters=[filters]))


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_a_cut_file_is_refused(folder: Path, kind: str) -> None:
    archive = PACK[kind](tar(("a", os.urandom(100_000))))

    assert "cut" in refusal(folder, archive[: len(archive) // 2])


NONE = [b"", b"text", b"\x1f\x8b", b"PK\3\4", b"PK", b"BZh9rubbish", b"\xfd7zXZ\0rubbish", b"\xff" * 5000]


@pytest.mark.parametrize("data", NONE)
def test_what_is_no_archive_is_refused(folder: Path, data: bytes) -> None:
    refusal(folder, data)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_broken_archives_do_no_harm(folder: Path, kind: str) -> None:
    members = [(f"f{number}", os.urandom(2000)) for number in range(5)]
    archive = zipped(*members) if kind == "zip" else PACK[kind](tar(*members))

    for place in range(0, len(archive), 97):
        broken = bytearray(archive)
        broken[place] ^= 0xFF
        with contextlib.suppress(ArchiveRefused):
            unpacked(folder, bytes(broken))


def test_unpacking_stops_when_nobody_waits(folder: Path) -> None:
    archive = tar(("a", bytes(500_000)), ("b", b""))

    with pytest.raises(NotWanted):
        unpacked(folder, archive, is_wanted=lambda: not (folder / "a").exists())

    assert not (folder / "b").exists()


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    return sandbox


def packed(tmp_path: Path, name: str, data: bytes) -> str:
    (tmp_path / name).write_bytes(data)
    return f"{tmp_path}/{name}"


async def test_an_archive_is_unpacked_into_the_sandbox_and_not_kept(sandbox: Path, tmp_path: Path) -> None:
    uri = packed(tmp_path, "app.tgz", gzip.compress(tar(("app/run", b"x"), ("conf", b"y"))))

    told = await fetch(sandbox, Fetch(uri, extract=True), settings=allowing(tmp_path))

    assert sorted(os.listdir(sandbox)) == ["app", "conf"]
    assert told[-1] == f"unpacking: {uri}"


async def test_archives_are_merged_in_a_folder(sandbox: Path, tmp_path: Path) -> None:
    one = packed(tmp_path, "1", tar(("bin/a", b"1"), ("bin/b", b"1")))
    two = packed(tmp_path, "2", zipped(("bin/b", b"2"), ("lib/c", b"2")))

    items = [Fetch(uri, "opt/app", extract=True) for uri in (one, two, two)]
    await fetch(sandbox, *items, settings=allowing(tmp_path))

    app = sandbox / "opt/app"
    assert {path: (app / path).read_text() for path in ("bin/a", "bin/b", "lib/c")} == {
        "bin/a": "1",
        "bin/b": "2",
        "lib/c": "2",
    }


async def test_an_archive_does_not_replace_a_folder_by_a_file(sandbox: Path, tmp_path: Path) -> None:
    (sandbox / "a").mkdir()
    uri = packed(tmp_path, "x", tar(("a", b"")))

    with pytest.raises(LaunchFailed, match="in the way"):
        await fetch(sandbox, Fetch(uri, extract=True), settings=allowing(tmp_path))


async def test_a_refused_archive_leaves_nothing(sandbox: Path, tmp_path: Path) -> None:
    uri = packed(tmp_path, "bad.tar", tar(("good", b"x"), ("../bad", b"x")))

    with pytest.raises(LaunchFailed) as refused:
        await fetch(sandbox, Fetch(uri, extract=True), settings=allowing(tmp_path))

    assert refused.value.reason is Reason.FETCH_FAILED
    assert refused.value.is_task_fault
    assert "'../bad' leads out" in str(refused.value)
    assert os.listdir(sandbox) == []
    assert not (tmp_path / "bad").exists()
