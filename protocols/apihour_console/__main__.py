"""``python -m apihour_console``: the console process, started by the arbiter."""

from __future__ import annotations

import sys

from apihour_console.process import main

sys.exit(main())
