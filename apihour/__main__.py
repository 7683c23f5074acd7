"""``python -m apihour``: the same as the command ``apihour``."""

import sys

from apihour.cli.main import main

sys.exit(main())
