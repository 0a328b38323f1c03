"""Tables through language models: every row, concurrently, watched live, back as a DataFrame."""

import importlib
from typing import TYPE_CHECKING, Any

from .analysis import accessor as _accessor  # noqa: F401 - registers df.parallel
from .core.errors import (
    AllFailed,
    AttemptError,
    BudgetExceeded,
    FailFast,
    InvalidOutputError,
    LMError,
    LocalModelError,
    OutOfVocabularyError,
    ParallelError,
    PardspyError,
    RunStopped,
    StoreError,
    TooManyFailures,
)
from .core.metrics import Latency, ParallelMetrics
from .core.options import Options, UntilDecided
from .core.usage import Usage
from .llm.lm import LM
from .llm.response import Completion
from .modules.history import History
from .modules.predict import ChainOfThought, Predict
from .modules.prediction import Prediction
from .runs.api import arun_parallel, run_parallel, start_parallel
from .runs.open_runs import last_run
from .runs.parallel import Parallel
from .runs.run import Run
from .signatures.fields import InputField, OutputField
from .signatures.image import Image
from .signatures.signature import Signature

if TYPE_CHECKING:
    from . import store, testing
    from .analysis.compare import Comparison, compare
    from .analysis.diff import diff
    from .analysis.evaluate import Evaluation, evaluate
    from .analysis.plots import (
        plot_calibration,
        plot_confusion,
        plot_counts,
        plot_latency,
        plot_shares,
        plot_timeline,
    )
    from .analysis.review import Review
    from .analysis.shares import Shares, shares
    from .core.intervals import Interval
    from .modules.cascade import Cascade
    from .modules.program import Program
    from .modules.sampling import BestOfN, Refine
    from .runs.batch_api.submit import BatchJob, batch_jobs, submit_batch
    from .runs.doctor import doctor
    from .runs.estimate import Estimate, estimate
    from .runs.preview import Preview, preview
    from .runs.to_parquet import run_to_parquet

# imported when first used: what not every notebook needs should not cost every notebook
_LATER = {
    "store": "store",
    "testing": "testing",
    "diff": "analysis.diff",
    "Estimate": "runs.estimate",
    "Interval": "core.intervals",
    "Comparison": "analysis.compare",
    "compare": "analysis.compare",
    "Evaluation": "analysis.evaluate",
    "evaluate": "analysis.evaluate",
    "plot_calibration": "analysis.plots",
    "plot_confusion": "analysis.plots",
    "doctor": "runs.doctor",
    "estimate": "runs.estimate",
    "plot_counts": "analysis.plots",
    "plot_latency": "analysis.plots",
    "plot_shares": "analysis.plots",
    "plot_timeline": "analysis.plots",
    "Review": "analysis.review",
    "Shares": "analysis.shares",
    "shares": "analysis.shares",
    "Preview": "runs.preview",
    "preview": "runs.preview",
    "run_to_parquet": "runs.to_parquet",
    "Cascade": "modules.cascade",
    "Program": "modules.program",
    "BestOfN": "modules.sampling",
    "Refine": "modules.sampling",
    "BatchJob": "runs.batch_api.submit",
    "batch_jobs": "runs.batch_api.submit",
    "submit_batch": "runs.batch_api.submit",
}

__version__ = "0.2.0"

__all__ = [
    "LM",
    "AllFailed",
    "AttemptError",
    "BatchJob",
    "BestOfN",
    "BudgetExceeded",
    "Cascade",
    "ChainOfThought",
    "Comparison",
    "Completion",
    "Estimate",
    "Evaluation",
    "FailFast",
    "History",
    "Image",
    "InputField",
    "Interval",
    "InvalidOutputError",
    "LMError",
    "Latency",
    "LocalModelError",
    "Options",
    "OutOfVocabularyError",
    "OutputField",
    "Parallel",
    "ParallelError",
    "ParallelMetrics",
    "PardspyError",
    "Predict",
    "Prediction",
    "Preview",
    "Program",
    "Refine",
    "Review",
    "Run",
    "RunStopped",
    "Shares",
    "Signature",
    "StoreError",
    "TooManyFailures",
    "UntilDecided",
    "Usage",
    "arun_parallel",
    "batch_jobs",
    "compare",
    "diff",
    "doctor",
    "estimate",
    "evaluate",
    "last_run",
    "plot_calibration",
    "plot_confusion",
    "plot_counts",
    "plot_latency",
    "plot_shares",
    "plot_timeline",
    "preview",
    "run_parallel",
    "run_to_parquet",
    "shares",
    "start_parallel",
    "store",
    "submit_batch",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_LATER[name]}", __name__)
    return module if name == _LATER[name] else getattr(module, name)


def __dir__() -> list[str]:
    return __all__  # the public names, and nothing else
