"""Where a frame came from: what `df.attrs["pardspy"]` keeps, small and fit for JSON."""

from __future__ import annotations

import sys
from typing import Any

from .metrics import ParallelMetrics
from .modules import Module
from .options import Options


def provenance(
    module: Module,
    options: Options,
    *,
    workers: int,
    remembers: bool,
    metrics: ParallelMetrics,
    rows: int,
) -> dict[str, Any]:
    """Metrics, options, signature, model and package versions of a run; `remembers` says whether
    its completed rows went into a store, `rows` how many the frame was made with."""
    import importlib.metadata

    packages = ("pardspy_nb", "openai", "pandas")
    versions = {name: importlib.metadata.version(name) for name in packages}
    signature = getattr(module.source, "signature", None)
    return {
        "metrics": metrics.to_dict(),
        "rows": rows,
        "options": options.to_dict() | {"max_workers": workers},
        "remembers": remembers,
        "module": module.name,
        "signature": {
            "instructions": getattr(signature, "instructions", None),
            "inputs": {n: f.type_name for n, f in module.inputs.fields.items()},
            "outputs": {n: f.type_name for n, f in module.outputs.items()},
        },
        "model": next((str(getattr(lm, "model", lm)) for lm in module.lms), None),
        "versions": versions | {"python": ".".join(map(str, sys.version_info[:3]))},
    }
