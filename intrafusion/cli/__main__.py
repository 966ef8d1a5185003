"""`python -m intrafusion.cli` is `intrafusion`."""

from intrafusion.cli.app import main

if __name__ == "__main__":
    main()
