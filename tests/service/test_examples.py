from __future__ import annotations

import json
from pathlib import Path

import pytest

from runrig_service.core.app_json import read_app
from runrig_service.core.limits import Limits, Policy
from runrig_service.core.questions import CreateApp, ShowApp
from tests.service.runner import Runner

APPS = sorted((Path(__file__).resolve().parents[2] / "examples/apps").glob("*.json"))


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.name)
def test_the_example_is_an_app_that_comes_to_run(path: Path) -> None:
    body = json.loads(path.read_text())
    runner = Runner()

    runner.answer(CreateApp(body))
    runner.settle(healthy=True)

    app = runner.answer(ShowApp(read_app(body, Limits(), Policy()).app_id))
    assert isinstance(app, dict)
    assert app["tasksHealthy"] == app["instances"]
    assert app["deployments"] == []
