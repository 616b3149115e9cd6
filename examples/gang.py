"""Run four tasks that start all together or not at all: `python examples/gang.py [HOST:PORT]`.

Each learns which of how many it is. One that fails stops the others, and all four are tried again, three times at most.
"""

import sys

import runrig

wants = runrig.Wants(
    on_change=lambda task: print(task.task_id, task.state.name if task.state else "waiting", flush=True)
)
worker = runrig.task(
    'echo "worker $RUNRIG_GANG_INDEX of $RUNRIG_GANG_SIZE"',
    cpus=0.1,
    mem="32M",
    priority=10,  # before what has less
    expected_duration_s=60,  # a promise: it may run where a larger gang waits for room
)
wants.gang("train", 4, worker, retries=3)

framework = runrig.Framework("gang", wants, master=sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:5055")
framework.main(until=lambda: wants.is_done)
print("failed:", ", ".join(wants.failed) or "none")
