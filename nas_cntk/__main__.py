"""`python -m nas_cntk`."""

from nas_cntk.cli import main

if __name__ == "__main__":
    main()
