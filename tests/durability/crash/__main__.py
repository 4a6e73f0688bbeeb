"""`./dev crash [KIND...]`: run all of it, and print a table."""

from __future__ import annotations

import sys

from .program import main

sys.exit(main())
