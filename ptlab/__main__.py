"""``python -m ptlab`` is the command ``ptlab``."""

import sys

from ptlab.cli import main

sys.exit(main())
