"""What tokens cost."""

from __future__ import annotations

from typing import Any

import pytest

import pardspy_nb as pn
from pardspy_nb.llm.prices import rate_of


@pytest.mark.parametrize("price", [None, (0.15, 0.6, 0.075)])
def test_cached_prompt_tokens_are_priced_as_such(price: Any) -> None:
    rate = rate_of("gpt-4o-mini", "http://127.0.0.1/v1", price)
    assert rate is not None
    assert rate.cost_usd(1000, 100, 400) == pytest.approx(
        (600 * 0.15 + 400 * 0.075 + 100 * 0.6) / 1e6
    )
    assert rate.cost_usd(1000, 100) == pytest.approx((1000 * 0.15 + 100 * 0.6) / 1e6)


def test_an_endpoint_of_a_known_provider_has_that_providers_price() -> None:
    by_url = rate_of("llama-3.1-8b-instant", "https://api.groq.com/openai/v1")
    named = rate_of("groq/llama-3.1-8b-instant", "http://127.0.0.1/v1")
    assert by_url == named is not None
    assert rate_of("no-such-model", "https://api.groq.com/openai/v1") is None


def test_prices_in_tiers_are_the_tables_own() -> None:
    rate = rate_of("gemini-2.5-pro", "http://127.0.0.1/v1")
    assert rate is not None
    short, long = rate.cost_usd(100_000, 0) / 100_000, rate.cost_usd(300_000, 0) / 300_000
    assert long == pytest.approx(2 * short)


@pytest.mark.parametrize("price", [(1,), (1, 2, 3, 4), (-1, 2)])
def test_a_price_that_is_none_is_refused(price: Any) -> None:
    with pytest.raises(ValueError, match="USD per 1M"):
        pn.LM("m", price=price)
