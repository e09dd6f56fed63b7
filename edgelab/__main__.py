"""`python -m edgelab`: the same as the command `edgelab`."""

from edgelab.cli import main

if __name__ == "__main__":
    main()
