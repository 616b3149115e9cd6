"""`python -m runrig`: the command line."""

from runrig.cli.main import main

if __name__ == "__main__":
    main(prog_name="runrig")
