"""Run these commands once, each to success, then end: `python examples/run_once.py [HOST:PORT]`."""

import sys

import runrig

wants = runrig.Wants(
    on_change=lambda task: print(task.task_id, task.state.name if task.state else "waiting", flush=True)
)
for number in range(5):
    wants.once(f"hello-{number}", runrig.task(f"echo hello from {number}", cpus=0.1, mem="32M"), retries=2)

framework = runrig.Framework("run-once", wants, master=sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:5055")
framework.main(until=lambda: wants.is_done)
print("failed:", ", ".join(wants.failed) or "none")
