"""The price of a call: the user's own price, or the table of `genai-prices`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Price = Sequence[float]
_MTOK = 1_000_000


class Rate(NamedTuple):
    """The price of a model's tokens, USD per token.

    `table` is set if the price depends on more than tokens (tiers by length, prices by the hour,
    a price per call). It then computes the cost of each call.
    """

    prompt: float
    completion: float
    cached: float
    table: Callable[[int, int, int], float] | None = None
    is_given: bool = False  # by the user

    def cost_usd(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """US dollars for one call; `cached_tokens` are the part of `prompt_tokens` that the
        provider read from its prompt cache."""
        if self.table is not None:
            return self.table(prompt_tokens, completion_tokens, cached_tokens)
        fresh = (prompt_tokens - cached_tokens) * self.prompt
        return fresh + cached_tokens * self.cached + completion_tokens * self.completion


def rate_of(model: str, url: str, price: Price | None = None) -> Rate | None:
    """The rate of a model at an endpoint, None if it is unknown.

    `price` is (USD per 1M prompt tokens, USD per 1M completion tokens). It may have a third
    figure, for prompt tokens read from the provider's cache. It overrides the table. The table is
    searched for the endpoint's own provider, then for any provider with a model of this name. A
    name such as `openai/gpt-5-nano` names the provider.

    Raises:
        ValueError: `price` is not two or three figures of at least 0.
    """
    if price is not None:
        if len(price) not in (2, 3) or not all(p >= 0 for p in price):
            raise ValueError(
                f"price= must be (USD per 1M prompt tokens, USD per 1M completion tokens"
                f"[, USD per 1M cached prompt tokens]); got {price!r}"
            )
        prompt, completion, cached = (p / _MTOK for p in (*price, price[0])[:3])
        return Rate(prompt, completion, cached, is_given=True)
    provider, _, name = model.rpartition("/")
    for where in ({"provider_api_url": url}, {"provider_id": provider or None}):
        try:
            return _from_table(name, where)
        except LookupError:
            continue
    return None


def _from_table(name: str, where: dict[str, Any]) -> Rate:
    from genai_prices import Usage, calc_price
    from genai_prices.types import TieredPrices

    def table(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> float:
        usage = Usage(
            input_tokens=prompt_tokens,
            output_tokens=completion_tokens,
            cache_read_tokens=cached_tokens,
        )
        return float(calc_price(usage, name, **where).total_price)

    found = calc_price(Usage(input_tokens=0, output_tokens=0), name, **where)
    by_the_hour = isinstance(found.model.prices, list) and len(found.model.prices) > 1
    tiers = any(isinstance(p, TieredPrices) for p in vars(found.model_price).values())
    per_call = table(0, 0, 0) > 0
    rate = Rate(
        table(_MTOK, 0, 0) / _MTOK, table(0, _MTOK, 0) / _MTOK, table(_MTOK, 0, _MTOK) / _MTOK
    )
    return rate._replace(table=table) if by_the_hour or tiers or per_call else rate


def table_version() -> str:
    """The name and version of the price table."""
    import importlib.metadata

    return f"genai-prices {importlib.metadata.version('genai-prices')}"
