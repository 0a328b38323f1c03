"""What requests can cost at most: which modules a budget can be kept for."""

from __future__ import annotations

from ..signatures.image import Image
from .module import Module

_MAX_ANSWER_TOKENS = 4096  # an answer's, where the LM names no max_tokens


def refuse_unknown(module: Module) -> None:
    """Refuse a budget that could not be kept.

    Raises:
        ValueError: a module whose requests cannot be seen (a function may call anything), or a
            model whose price is not known.
    """
    if not module.lms or not module.requests_are_known:
        raise ValueError(
            f"max_cost_usd cannot be kept for {module.name!r}: what it sends cannot be known "
            "before it does; it works for Predict and its kin"
        )
    if any(field.value_type is Image for field in module.inputs.fields.values()):
        raise ValueError(
            "max_cost_usd cannot be kept where rows hold an image: nobody can tell "
            "what it costs before it is sent"
        )
    for lm in module.lms:
        if not hasattr(lm, "worst_case") or not getattr(lm, "can_bound_cost", True):
            raise ValueError(
                f"max_cost_usd cannot be kept for {lm!r}: it has no method worst_case(messages, "
                "…) of its own that tells what a call can cost"
            )
        if getattr(lm, "rate", False) is None:
            raise ValueError(
                f"max_cost_usd needs a price, and that of {lm.model!r} is not known: give it, in "
                "USD per 1M tokens, with LM(price=(prompt, completion))"
            )


def answer_tokens(module: Module, limit_usd: float) -> int:
    """The bound on answers of models that have none of their own: 4,096 tokens, or what a quarter
    of the budget pays if that is less."""
    rates = [lm.rate for lm in module.lms if getattr(lm, "rate", None) is not None]
    dearest = max((rate.cost_usd(0, _MAX_ANSWER_TOKENS) for rate in rates), default=0.0)
    share = limit_usd / 4 / dearest if dearest else 1.0
    return max(1, int(_MAX_ANSWER_TOKENS * min(1.0, share)))
