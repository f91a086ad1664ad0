"""`python -m pipeline` is the console script `softlabels`."""

import sys

from pipeline.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
