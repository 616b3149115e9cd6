"""The runtimes: what runs tasks, behind the interface of `runrig_agent.runtime`."""
