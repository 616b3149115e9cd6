"""Keep three web servers running, whatever happens: `python examples/keep_running.py [HOST:PORT [STATE_FILE]]`.

With a state file the example can be killed and started again: it finds its servers and starts none twice.
"""

import sys

import runrig

wants = runrig.Wants(
    on_change=lambda task: print(task.task_id, task.state.name if task.state else "waiting", flush=True)
)
wants.keep("web", 3, runrig.task("exec python3 -m http.server $PORT", cpus=0.1, mem="64M", ports=1))

master = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:5055"
store = runrig.SqliteStore(sys.argv[2]) if len(sys.argv) > 2 else runrig.MemoryStore()
runrig.Framework("keep-running", wants, master=master, store=store).main()
