"""The one place where the vocabulary becomes protobuf and back.

`…_to_wire` builds messages; `add_…` builds them within the envelope that will be sent, as a copy costs as much again;
`…_from_wire` reads them and raises InvalidInput that names field, value and what is allowed. The master never reads the
body of a task: `ForwardedTask` keeps the received sub-message beside the few fields it needs.
"""

from runrig._wire.agents import (
    add_order,
    add_report,
    agent_from_wire,
    agent_to_wire,
    order_from_wire,
    report_from_wire,
)
from runrig._wire.calls import add_call, call_from_wire, framework_from_wire, framework_to_wire
from runrig._wire.common import (
    enum_from_wire,
    fill_unavailability,
    labels_from_wire,
    labels_to_wire,
    resources_from_wire,
    resources_to_wire,
    unavailability_from_wire,
)
from runrig._wire.explanations import explanation_from_wire, explanation_to_wire
from runrig._wire.news import add_news, news_from_wire, refusal_from_wire
from runrig._wire.tasks import (
    ForwardedTask,
    grace_from_wire,
    task_from_wire,
    task_to_wire,
    update_from_wire,
    update_to_wire,
)

__all__ = [
    "ForwardedTask",
    "add_call",
    "add_news",
    "add_order",
    "add_report",
    "agent_from_wire",
    "agent_to_wire",
    "call_from_wire",
    "enum_from_wire",
    "explanation_from_wire",
    "explanation_to_wire",
    "fill_unavailability",
    "framework_from_wire",
    "framework_to_wire",
    "grace_from_wire",
    "labels_from_wire",
    "labels_to_wire",
    "news_from_wire",
    "order_from_wire",
    "refusal_from_wire",
    "report_from_wire",
    "resources_from_wire",
    "resources_to_wire",
    "task_from_wire",
    "task_to_wire",
    "unavailability_from_wire",
    "update_from_wire",
    "update_to_wire",
]
