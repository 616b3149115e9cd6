"""All that the framework knows, in its parts."""

from __future__ import annotations

from runrig_service.core.app import Definition
from runrig_service.core.apps import Apps
from runrig_service.core.asked_back import AskedBack
from runrig_service.core.errors import Missing
from runrig_service.core.failures import Failures
from runrig_service.core.instances import Instances
from runrig_service.core.limits import Limits, Policy


class State:
    """The parts: each keeps its own entries; what spans them is in `edits`, `converge` and `views`."""

    def __init__(self, limits: Limits, policy: Policy) -> None:
        self.limits = limits
        self.policy = policy
        self.apps = Apps(policy)
        self.instances = Instances(policy)
        self.failures = Failures()
        self.asked_back = AskedBack()

    def app(self, app_id: str) -> Definition:
        """Return an app; raise Missing if there is none of that id."""
        definition = self.apps.find(app_id)
        if definition is None:
            raise Missing("app", app_id, f"App '{app_id}' does not exist")
        return definition
