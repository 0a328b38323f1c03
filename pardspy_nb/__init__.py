"""Tables through language models: every row, concurrently, watched live, back as a DataFrame."""

from . import accessor as _accessor  # noqa: F401 - registers df.parallel
from . import store
from .compare import diff
from .errors import (
    AllFailed,
    AttemptError,
    BudgetExceeded,
    FailFast,
    InvalidOutputError,
    LMError,
    LocalModelError,
    ParallelError,
    PardspyError,
    RunStopped,
    StoreError,
    TooManyFailures,
)
from .estimate import Estimate, Interval, estimate
from .fields import InputField, OutputField
from .history import History
from .lm import LM, Completion
from .metrics import Latency, ParallelMetrics
from .options import Options
from .parallel import Parallel
from .plots import plot_counts, plot_latency, plot_timeline
from .predict import ChainOfThought, Predict
from .prediction import Prediction
from .preview import Preview, preview
from .run import Run, arun_parallel, last_run, run_parallel, start_parallel
from .signature import Signature
from .usage import Usage

__version__ = "0.1.0"

__all__ = [
    "LM",
    "AllFailed",
    "AttemptError",
    "BudgetExceeded",
    "ChainOfThought",
    "Completion",
    "Estimate",
    "FailFast",
    "History",
    "InputField",
    "Interval",
    "InvalidOutputError",
    "LMError",
    "Latency",
    "LocalModelError",
    "Options",
    "OutputField",
    "Parallel",
    "ParallelError",
    "ParallelMetrics",
    "PardspyError",
    "Predict",
    "Prediction",
    "Preview",
    "Run",
    "RunStopped",
    "Signature",
    "StoreError",
    "TooManyFailures",
    "Usage",
    "arun_parallel",
    "diff",
    "estimate",
    "last_run",
    "plot_counts",
    "plot_latency",
    "plot_timeline",
    "preview",
    "run_parallel",
    "start_parallel",
    "store",
]
