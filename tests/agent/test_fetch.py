from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runrig.tasks import Fetch, Reason
from runrig_agent.fetch import Fetcher, FetchSettings
from runrig_agent.fetch_sources import SourceSettings, shown
from runrig_agent.runtime import LaunchFailed
from tests.agent.web import Web, content, endless, redirect, silence, status, web_server

SETTINGS = FetchSettings(
    sources=SourceSettings(use_environment=False), bytes_max=1_000_000, retry_delays_s=(0, 0), timeout_s=30
)


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with web_server() as web:
        yield web


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir(mode=0o700)
    return sandbox


async def fetch(sandbox: Path, *items: Fetch, settings: FetchSettings = SETTINGS) -> list[str]:
    """Fetch; return what was told meanwhile."""
    told: list[str] = []
    fetcher = Fetcher(settings)
    try:
        await fetcher.fetch(items, sandbox, told.append)
    finally:
        await fetcher.close()
    return told


async def refusal(sandbox: Path, item: Fetch, settings: FetchSettings = SETTINGS) -> LaunchFailed:
    """Fetch what cannot be; nothing may be left of it."""
    with pytest.raises(LaunchFailed) as refused:
        await fetch(sandbox, item, settings=settings)
    assert os.listdir(sandbox) == []
    return refused.value


async def test_a_file_comes_over_http(web: Web, sandbox: Path) -> None:
    url = web.on("/files/app.bin", content(b"\0binary\xff"))

    told = await fetch(sandbox, Fetch(url))

    assert (sandbox / "app.bin").read_bytes() == b"\0binary\xff"
    assert (sandbox / "app.bin").stat().st_mode & 0o777 == 0o644
    assert os.listdir(sandbox) == ["app.bin"]
    assert told == [f"fetching: {url}"]


async def test_items_come_in_order_and_later_ones_replace(web: Web, sandbox: Path) -> None:
    first, second = web.on("/1", content(b"first")), web.on("/2", content(b"second"))

    told = await fetch(sandbox, Fetch(first, "config"), Fetch(second, "config"))

    assert (sandbox / "config").read_bytes() == b"second"
    assert [text.partition(" (")[2] for text in told] == ["1 of 2)", "2 of 2)"]


async def test_a_destination_may_be_in_folders_and_executable(web: Web, sandbox: Path) -> None:
    await fetch(sandbox, Fetch(web.on("/x", content(b"#!/bin/sh\n")), "bin/tools/run", executable=True))

    assert (sandbox / "bin/tools/run").stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_what_is_fetched_belongs_to_the_owner_of_the_sandbox(web: Web, sandbox: Path) -> None:
    os.chown(sandbox, 4242, 77)

    await fetch(sandbox, Fetch(web.on("/x", content(b"x")), "folder/file"))

    for path in (sandbox / "folder", sandbox / "folder/file"):
        assert (path.stat().st_uid, path.stat().st_gid) == (4242, 77)


async def test_the_right_sum_is_accepted(web: Web, sandbox: Path) -> None:
    digest = hashlib.sha256(b"data").hexdigest()

    await fetch(sandbox, Fetch(web.on("/x", content(b"data")), sha256=digest.upper()))

    assert (sandbox / "x").read_bytes() == b"data"


async def test_a_wrong_sum_is_told_and_leaves_nothing(web: Web, sandbox: Path) -> None:
    failed = await refusal(sandbox, Fetch(web.on("/x", content(b"data")), sha256="0" * 64))

    assert failed.reason is Reason.FETCH_FAILED
    assert failed.is_task_fault
    assert hashlib.sha256(b"data").hexdigest() in str(failed)


@pytest.mark.parametrize("sum_", ["abc", "g" * 64, "0" * 65])
async def test_a_sum_that_is_none_is_refused(web: Web, sandbox: Path, sum_: str) -> None:
    failed = await refusal(sandbox, Fetch(web.on("/x", content(b"data")), sha256=sum_))

    assert "64 hexadecimal digits" in str(failed)
    assert web.asked == []


@pytest.mark.parametrize(
    "destination", ["../x", "/etc/x", "a/../../x", "a/..", "folder/", ".runrig-fetch", "a\0b", "x" * 300]
)
async def test_a_destination_outside_the_sandbox_is_refused(web: Web, sandbox: Path, destination: str) -> None:
    failed = await refusal(sandbox, Fetch(web.on("/x", content(b"x")), destination))

    assert failed.reason is Reason.FETCH_FAILED


async def test_a_uri_without_a_name_needs_a_destination(web: Web, sandbox: Path) -> None:
    assert "fetch.destination" in str(await refusal(sandbox, Fetch(web.on("/", content(b"x")))))


async def test_a_file_is_never_written_through_a_link(web: Web, sandbox: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    (sandbox / "folder").symlink_to(outside)
    (sandbox / "file").symlink_to(outside / "file")
    url = web.on("/x", content(b"new"))

    await fetch(sandbox, Fetch(url, "file"))
    with pytest.raises(LaunchFailed, match="in the way"):
        await fetch(sandbox, Fetch(url, "folder/file"))

    assert (outside / "file").read_text() == "kept"
    assert (sandbox / "file").read_bytes() == b"new"


async def test_a_file_that_claims_to_be_too_large_is_not_read(web: Web, sandbox: Path) -> None:
    failed = await refusal(sandbox, Fetch(web.on("/x", content(b"x", claimed=2_000_000))))

    assert "larger than this agent allows (1000000 bytes)" in str(failed)


async def test_a_file_without_end_is_cut_at_the_bound(web: Web, sandbox: Path) -> None:
    failed = await refusal(sandbox, Fetch(web.on("/x", endless(b"x" * 65536))))

    assert "larger than this agent allows (1000000 bytes)" in str(failed)


async def test_redirects_are_followed_to_a_bound(web: Web, sandbox: Path) -> None:
    web.on("/there", content(b"found"))

    await fetch(sandbox, Fetch(web.on("/here", redirect("/there"))))
    with pytest.raises(LaunchFailed, match="redirects more than 5 times"):
        await fetch(sandbox, Fetch(web.on("/round", redirect("/round"))))

    assert (sandbox / "here").read_bytes() == b"found"


async def test_a_redirect_to_a_file_of_the_host_is_refused(web: Web, sandbox: Path) -> None:
    failed = await refusal(sandbox, Fetch(web.on("/x", redirect("file:///etc/passwd"))))

    assert failed.reason is Reason.FETCH_FAILED


async def test_a_busy_server_is_asked_again(web: Web, sandbox: Path) -> None:
    url = web.on("/x", status(503), content(b"short", claimed=50), content(b"complete"))

    told = await fetch(sandbox, Fetch(url))

    assert (sandbox / "x").read_bytes() == b"complete"
    assert len(web.asked) == 3
    assert "again in 0 s (the server answers with status 503)" in told[1]


async def test_a_server_that_stays_busy_is_no_fault_of_the_task(web: Web, sandbox: Path) -> None:
    failed = await refusal(sandbox, Fetch(web.on("/x", status(500))))

    assert len(web.asked) == 3
    assert not failed.is_task_fault
    assert "status 500; try again later" in str(failed)


async def test_a_missing_file_is_asked_for_once(web: Web, sandbox: Path) -> None:
    failed = await refusal(sandbox, Fetch(f"{web.url}/none"))

    assert len(web.asked) == 1
    assert failed.is_task_fault
    assert "status 404" in str(failed)


async def test_a_server_that_is_not_there_is_told(sandbox: Path) -> None:
    failed = await refusal(sandbox, Fetch("http://127.0.0.1:1/x"))

    assert failed.reason is Reason.FETCH_FAILED
    assert not failed.is_task_fault


async def test_a_silent_server_is_given_up(web: Web, sandbox: Path) -> None:
    began = asyncio.Event()
    stalled = replace(SETTINGS.sources, stall_timeout_s=0.05)
    settings = replace(SETTINGS, sources=stalled, retry_delays_s=())

    failed = await refusal(sandbox, Fetch(web.on("/x", silence(began))), settings)

    assert not failed.is_task_fault


async def test_a_fetch_has_a_time_of_its_own(web: Web, sandbox: Path) -> None:
    failed = await refusal(sandbox, Fetch(web.on("/x", silence(asyncio.Event()))), replace(SETTINGS, timeout_s=0.05))

    assert "not done in time" in str(failed)


async def test_a_cancelled_fetch_leaves_nothing(web: Web, sandbox: Path) -> None:
    began = asyncio.Event()
    fetching = asyncio.create_task(fetch(sandbox, Fetch(web.on("/x", silence(began)))))
    await began.wait()

    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching

    assert os.listdir(sandbox) == []


async def test_what_a_crash_has_left_is_removed(web: Web, sandbox: Path) -> None:
    (sandbox / ".runrig-fetch").write_text("half")
    (sandbox / ".runrig-fetch.d").mkdir()
    (sandbox / ".runrig-fetch.d/half").touch()

    await fetch(sandbox, Fetch(web.on("/x", content(b"x"))))

    assert os.listdir(sandbox) == ["x"]


async def test_no_more_tasks_fetch_at_once_than_allowed(web: Web, tmp_path: Path) -> None:
    began = asyncio.Event()
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    fetcher = Fetcher(replace(SETTINGS, tasks_max=1))
    blocked = asyncio.create_task(fetcher.fetch([Fetch(web.on("/a", silence(began)))], first, ignore))
    await began.wait()
    waiting = asyncio.create_task(fetcher.fetch([Fetch(web.on("/b", content(b"b")))], second, ignore))
    await asyncio.wait([waiting], timeout=0.05)
    assert web.asked == ["/a"]

    blocked.cancel()
    await waiting

    assert (second / "b").exists()
    await fetcher.close()


async def test_how_far_a_large_file_is_is_told(web: Web, sandbox: Path) -> None:
    settings = replace(SETTINGS, bytes_max=10**8, progress_interval_s=0)

    told = await fetch(sandbox, Fetch(web.on("/x", content(bytes(5 << 20)))), settings=settings)

    assert f"fetching, 2 of 5 MiB: {web.url}/x" in told


@pytest.mark.parametrize("prefix", ["", "file://", "file://localhost"])
async def test_a_local_file_comes_from_an_allowed_folder(sandbox: Path, tmp_path: Path, prefix: str) -> None:
    allowed = tmp_path / "shared"
    allowed.mkdir()
    (allowed / "data").write_text("local")

    await fetch(sandbox, Fetch(f"{prefix}{allowed}/data"), settings=allowing(allowed))

    assert (sandbox / "data").read_text() == "local"


async def test_an_allowed_folder_may_itself_be_a_link(sandbox: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/data").write_text("local")
    (tmp_path / "shared").symlink_to("real")

    await fetch(sandbox, Fetch(f"{tmp_path}/shared/data"), settings=allowing(tmp_path / "shared"))

    assert (sandbox / "data").read_text() == "local"


async def test_no_local_file_is_allowed_unless_the_operator_says_so(sandbox: Path) -> None:
    failed = await refusal(sandbox, Fetch("/etc/passwd"))

    assert "not in a folder that this agent allows (none is)" in str(failed)
    assert failed.is_task_fault


async def test_a_local_path_out_of_the_allowed_folder_is_refused(sandbox: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "shared"
    allowed.mkdir()
    (tmp_path / "shared-not").write_text("secret")
    (allowed / "link").symlink_to("../shared-not")

    for path in (f"{allowed}/../shared-not", f"{allowed}-not", f"{allowed}/link", f"file://{allowed}/%2e./shared-not"):
        assert "not in a folder that this agent allows" in str(
            await refusal(sandbox, Fetch(path, "x"), allowing(allowed))
        )


async def test_a_local_folder_or_pipe_is_refused(sandbox: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()

    for name in ("pipe", "folder"):
        failed = await refusal(sandbox, Fetch(f"{tmp_path}/{name}"), allowing(tmp_path))
        assert "no regular file" in str(failed)


@pytest.mark.parametrize("uri", ["ftp://h/x", "x", "", "file://other/etc/passwd", "gopher://x", "http://[bad/x"])
async def test_any_other_uri_is_refused(sandbox: Path, uri: str) -> None:
    assert (await refusal(sandbox, Fetch(uri, "x"), allowing(Path("/")))).reason is Reason.FETCH_FAILED


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_is_told_as_such(web: Web, tiny_disk: Path) -> None:
    failed = await refusal(tiny_disk, Fetch(web.on("/x", content(bytes(100_000)))))

    assert failed.reason is Reason.DISK_FULL
    assert not failed.is_task_fault


def test_secrets_in_a_uri_are_not_shown() -> None:
    assert shown("https://me:secret@h:8/a/b?token=secret#secret") == "https://h:8/a/b"


def allowing(folder: Path) -> FetchSettings:
    return replace(SETTINGS, sources=replace(SETTINGS.sources, allowed_paths=(folder,)))


def ignore(_: str) -> None:
    """Not want to know how far it is."""
