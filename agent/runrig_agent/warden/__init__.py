"""The warden: one small process per agent that starts its plain tasks, records their ends and outlives it.

Why a process of its own: the parent of a process is the only one told how it ended, and the agent must be
free to crash and restart without a task noticing. It is exec'd, never forked from the agent, whose gRPC
threads do not survive a fork; it is single-threaded and uses the standard library only, so that little of it
can break.

In its directory (`<agent's work dir>/warden`):

    lock         held (flock) while a warden runs; holds its pid
    socket       where agents connect; mode 0600
    journal      every start and end, one JSON object a line: what a new warden knows of the old one's tasks
    log          what it has to say

Rules:
1. A task starts at most once per key. The journal says what is about to start before it starts; what a killed
   warden left half-said is found by a token in the task's environment, or counts as ended, nobody knows how.
2. An end is on disk (fdatasync) before anybody is told; one flush serves all ends of a turn of the loop.
3. When a warden dies its tasks run on. The next one finds them by pid, start time and boot id, and is woken
   by their pidfd. How they ended is known only to kernels since 6.15; otherwise the end has no exit code.
4. SIGKILL, and the end of a task's first process, leave nothing of the task: its cgroup is emptied; without
   cgroups its process group, its session, its descendants and whatever carries its token are killed.
5. It ends by itself when nobody is connected and nothing runs, when it is asked to and nothing runs, or when
   its directory is gone and nothing runs.

Protocol, version 1: JSON objects, one a line, over the unix socket. A request holds `op` and `id`; the answer
has the same `id`, and either its result or `error` with `kind` and `message`.

    hello    {version}                        -> {version, pid, cgroups, why_no_cgroups}
    launch   {key, argv, env, cwd, sandbox, user, limits, log}   -> {task}, also when it was started before
    list     {}                               -> {item: task}..., then {done: true}
    signal   {key, signal}                    -> {}
    forget   {key}                            -> {}; a task that still runs is killed first
    exec     {key, argv, env, tty}, with three file descriptors  -> {pid}, later {exec_ended: code}
    leave    {}                               -> {leaves: bool}
    (notice) {ended: task}                    to every connection that said hello

`key` is [framework, task]; `task` is what `Record.described` returns. A connection that asked for `exec`
serves nothing else: its end kills what was executed.
"""

PROTOCOL_VERSION = 1
TOKEN_VARIABLE = "RUNRIG_WARDEN_TOKEN"
