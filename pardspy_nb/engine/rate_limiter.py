"""`rpm`, `tpm` and `Retry-After`: when the next request of the run may be sent.

The limiter has two token buckets (RFC 2697 calls the idea a single-rate meter). Each bucket fills
at its limit, and holds at most half a second's worth. So in any window of t seconds at most the
limit's share of t, and half a second's worth, of requests start. The other half of a second is left
for delays that the network adds. An attempt that is let in takes its tokens at once, so the number
of attempts that ask at the same time does not matter.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping

from ..core.events import Answer, Row
from .policies import is_overloaded, is_rate_limited
from .protocols import UNTIL_ONE_LEAVES
from .rate_limit_headers import HeardLimits, Limits
from .token_bucket import TokenBucket

_DEFAULT_ANSWER_TOKENS = 256  # of an answer, where an endpoint reports no usage
_REMEMBERED = 200  # the next answer is expected to be as long as the longest of so many


class RateLimiter:
    """A limiter (see `protocols.Limiter`) that keeps to limits a minute and to `Retry-After`.

    Args:
        rpm, tpm: requests and tokens a minute; None to use the limits in the endpoint's headers, if
            there are any (see `hear`).
        size: returns a row's length, in any unit; its tokens are expected in proportion.
    """

    def __init__(self, rpm: float | None, tpm: float | None, size: Callable[[Row], float]) -> None:
        self._given, self._size = Limits(rpm, tpm), size
        self._heard, self._is_set = Limits(None, None), False
        self._headers = HeardLimits()
        self._requests: TokenBucket | None = None
        self._tokens: TokenBucket | None = None
        self._held_until = 0.0
        self._began: float | None = None
        self._sent = 0
        self._expected: dict[int, list[float]] = {}  # tokens of attempts under way, by row number
        self._have_left = False  # whether any attempt is over
        self._next = 0.0  # tokens expected of the attempt that `wait_s` was last asked for
        self._sizes = self._prompts = 0.0  # sums over the answers seen: row sizes, prompt tokens
        self._completions: deque[int] = deque(maxlen=_REMEMBERED)

    def hear(self, headers: Mapping[str, str]) -> None:
        """Read the limits in an answer's headers; limits that the user gave are not replaced. May
        be called from any thread."""
        if self._given.rpm is None or self._given.tpm is None:
            heard = self._headers.of(headers)
            if heard is not None:
                self.learn(heard)

    def learn(self, limits: Limits) -> None:
        """Use the limits of an endpoint where the user gave none. May be called from any thread."""
        if limits != self._heard:
            self._heard, self._is_set = limits, False

    def wait_s(self, row: Row, now: float) -> float:
        """See `protocols.Limiter`."""
        if not self._is_set:
            self._set(now)
        wait_s = max(0.0, self._held_until - now)
        if self._requests is not None:
            wait_s = max(wait_s, self._requests.wait_s(1, now))
        if self._tokens is not None:
            if not self._have_left and self._expected:
                return UNTIL_ONE_LEAVES  # the first answer shows how many tokens a row takes
            self._next = self._expect(row)
            wait_s = max(wait_s, self._tokens.wait_s(self._next, now))
        return wait_s

    def enter(self, row: Row, now: float) -> None:
        """See `protocols.Limiter`."""
        self._sent += 1
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(self._next, now)
            self._expected.setdefault(row.number, []).append(self._next)

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """See `protocols.Limiter`."""
        if isinstance(outcome, BaseException) and (
            is_rate_limited(outcome) or is_overloaded(outcome)
        ):
            asked_s = getattr(outcome, "retry_after_s", None)
            if isinstance(asked_s, int | float) and math.isfinite(asked_s):
                self._held_until = max(self._held_until, now + asked_s)
        self._have_left = True
        if self._tokens is None and self._completions and not self._expected:
            return  # one answer is enough to know what a row takes, if headers report a limit later
        usage = getattr(outcome, "usage", None)
        prompt = getattr(usage, "prompt_tokens", None)
        completion = getattr(usage, "completion_tokens", None)
        if prompt is not None and completion is not None:
            self._learn(row, prompt, completion)
        if (expected := self._expected.get(row.number)) is None:
            return
        took = expected.pop()
        if not expected:
            del self._expected[row.number]
        total = getattr(usage, "total_tokens", None)
        if self._tokens is not None and total is not None:
            self._tokens.take(total - took, now)

    def _learn(self, row: Row, prompt: int, completion: int) -> None:
        self._sizes += self._size(row)
        self._prompts += prompt
        self._completions.append(completion)

    def _expect(self, row: Row) -> float:
        """The tokens that a row is expected to take: a prompt in proportion to the row's size, and
        an answer as long as the longest of the latest answers."""
        if not self._completions:  # no usage is known: a token is about four characters of English
            return self._size(row) / 4 + _DEFAULT_ANSWER_TOKENS if self._have_left else 0.0
        # the longest of few answers may be short: after the first, three times its length counts
        longest = max(self._completions) * (1 + 2 / len(self._completions))
        return self._size(row) * self._prompts / max(1.0, self._sizes) + longest

    def _set(self, now: float) -> None:
        """Make the buckets for the current limits."""
        self._is_set = True
        if self._began is None:
            self._began = now
        rpm = self._given.rpm if self._given.rpm is not None else self._heard.rpm
        tpm = self._given.tpm if self._given.tpm is not None else self._heard.tpm
        n_answers = max(1, len(self._completions))
        mean = (self._prompts + sum(self._completions)) / n_answers
        self._requests = self._bucket(self._requests, rpm, self._sent, now)
        self._tokens = self._bucket(self._tokens, tpm, self._sent * mean, now)

    def _bucket(
        self, bucket: TokenBucket | None, per_minute: float | None, sent: float, now: float
    ) -> TokenBucket | None:
        """The bucket for a limit, None without a limit. For a new limit, the requests or tokens
        sent before count, too, up to a minute's worth."""
        if per_minute is None:
            return None
        if bucket is not None:
            bucket.change(per_minute, now)
            return bucket
        early = sent - (now - (self._began or now)) * per_minute / 60
        return TokenBucket(per_minute, now, taken=min(max(0.0, early), per_minute))
