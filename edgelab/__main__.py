"""`python -m edgelab`: the same as the command `edgelab`."""

from edgelab.cli import main

main()
