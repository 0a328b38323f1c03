"""Upper bounds of cost, and the modules for which a budget can be kept."""

from __future__ import annotations

from ..signatures.image import Image
from .module import Module

_MAX_ANSWER_TOKENS = 4096  # of an answer, if the LM has no max_tokens


def refuse_unknown(module: Module) -> None:
    """Refuse a budget that cannot be kept.

    Raises:
        ValueError: the module's requests are not known in advance (a function may call anything),
            or the price of its model is unknown.
    """
    if not module.lms or not module.requests_are_known:
        raise ValueError(
            f"max_cost_usd cannot be kept for {module.name!r}: its requests are not known "
            "in advance; max_cost_usd works for Predict and its subclasses"
        )
    if any(field.value_type is Image for field in module.inputs.fields.values()):
        raise ValueError(
            "max_cost_usd cannot be kept if rows hold an image: "
            "the cost of an image is not known in advance"
        )
    for lm in module.lms:
        if not hasattr(lm, "worst_case") or not getattr(lm, "can_bound_cost", True):
            raise ValueError(
                f"max_cost_usd cannot be kept for {lm!r}: the LM needs a method of its own, "
                "worst_case(messages, …), which returns the most that a call can cost"
            )
        if getattr(lm, "rate", False) is None:
            raise ValueError(
                f"max_cost_usd needs a price, and the price of {lm.model!r} is not known: set it, "
                "in USD per 1M tokens, with LM(price=(prompt, completion))"
            )


def answer_tokens(module: Module, limit_usd: float) -> int:
    """The token limit for answers of models that have no limit of their own.

    The limit is 4,096 tokens, or fewer if a quarter of the budget pays for fewer.
    """
    rates = [lm.rate for lm in module.lms if getattr(lm, "rate", None) is not None]
    highest_usd = max((rate.cost_usd(0, _MAX_ANSWER_TOKENS) for rate in rates), default=0.0)
    share = limit_usd / 4 / highest_usd if highest_usd else 1.0
    return max(1, int(_MAX_ANSWER_TOKENS * min(1.0, share)))
