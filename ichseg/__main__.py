"""``python -m ichseg``: the command line."""

from ichseg.cli.main import main

if __name__ == "__main__":
    main()
