"""`python -m runrig_master`."""

from runrig_master.cli import master

master()
