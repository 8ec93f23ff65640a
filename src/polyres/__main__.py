"""``python -m polyres``: the command line."""

from polyres.cli import main

if __name__ == "__main__":
    main()
