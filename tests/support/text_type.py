"""pandas' type of text, which has another name by each of its two supported versions."""

from __future__ import annotations

import pandas as pd

TEXT = "str" if int(pd.__version__.partition(".")[0]) >= 3 else "string"
