"""The operator keeps a part of a host, and data stays there through the death of everything that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import runrig
from runrig.testing.processes import until
from tests.acceptance.features import place_of

pytestmark = pytest.mark.xdist_group("real-cluster")


@pytest.mark.timeout(180)
def test_data_on_a_volume_is_there_after_the_agent_and_the_master_were_killed(tmp_path: Path) -> None:
    kept = runrig.Volume("", "store", volume_id="data")
    terms = runrig.Terms(reservation_id="db-1")
    with place_of(tmp_path, "--runtime", "process") as place:
        cluster, author = place.cluster, place.author
        [agent] = [row["id"] for row in cluster.json("agents", "ls")]
        cluster.runrig("reserve", agent, "db-1", "default", "cpus:0.5;mem:128M;disk:100M")
        cluster.runrig("volumes", "create", agent, "db-1", "data", "50M")
        want = runrig.Want(runrig.TaskSpec(runrig.TaskId("w"), runrig.Resources(100, 32), terms=terms, volumes=(kept,)))
        author.launch("writes", want, command=runrig.Command(shell="echo kept > store/file"))
        assert author.ended("writes").state is runrig.TaskState.TASK_FINISHED

        for name in ("agent-1", "master"):
            cluster.kill(name)
            cluster.start(name)
        until(
            lambda: all("active" in row["state"].lower() for row in cluster.json("agents", "ls")), "the agent is back"
        )
        author.launch("reads", want, command=runrig.Command(shell="cat store/file"))

        assert place.printed("reads") == "kept\n"
        refused = cluster.runrig("unreserve", agent, "db-1", check=False)
        assert refused.returncode == 5
        assert "reservation db-1 has volumes: data; destroy them first" in refused.stderr
        [directory] = cluster.directory.glob("agents/*/volumes/data")
        cluster.runrig("volumes", "rm", agent, "data", "--yes")
        until(lambda: not directory.exists(), "the data is deleted")
        until(lambda: cluster.json("volumes", "ls") == [], "the volume is gone")
        cluster.runrig("unreserve", agent, "db-1")
        assert cluster.json("reservations", "ls") == []
