"""`python -m runrig_agent`."""

from runrig_agent.cli import main

main()
