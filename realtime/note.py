"""A level of the log for what people want to know and need not worry about."""

from __future__ import annotations

import logging

NOTE = 25
"""Between info, which only ``--debug`` shows, and a warning."""

logging.addLevelName(NOTE, "NOTE")
