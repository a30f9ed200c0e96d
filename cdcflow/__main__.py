"""`python -m cdcflow`: the same as the command `cdcflow`."""

from __future__ import annotations

import sys

from cdcflow.cli import main

sys.exit(main())
