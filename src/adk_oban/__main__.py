"""`python -m adk_oban` is `adk-oban`."""

from .cli import main

main(prog_name="adk-oban")
