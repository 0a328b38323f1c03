"""What a call costs, from the price table of `genai-prices`."""

from __future__ import annotations

Price = tuple[float, float]


def cost_usd(
    model: str,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    cached_tokens: int = 0,
    price: Price | None = None,
) -> float | None:
    """US dollars for one call, None when the price or the tokens are unknown.

    `price` is (USD per 1M prompt tokens, USD per 1M completion tokens) and overrides the table.
    `cached_tokens` are the part of `prompt_tokens` the provider read from its prompt cache; the
    table prices them as such. A name such as `openai/gpt-5-nano` is looked up at that provider.
    """
    if prompt_tokens is None or completion_tokens is None:
        return None
    if price is not None:
        return (prompt_tokens * price[0] + completion_tokens * price[1]) / 1e6
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=prompt_tokens, output_tokens=completion_tokens, cache_read_tokens=cached_tokens
    )
    provider, _, name = model.rpartition("/")
    try:
        return float(calc_price(usage, name, provider_id=provider or None).total_price)
    except LookupError:
        return None
