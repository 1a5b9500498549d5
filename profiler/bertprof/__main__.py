"""`python -m bertprof` is the command line."""

from bertprof.cli import main

if __name__ == "__main__":
    main()
