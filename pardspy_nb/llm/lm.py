"""Language models: which model is asked, where, and what came back."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..core.errors import BadRequestError, ServerError
from ..core.usage import Bound, Usage, record
from .background_loop import on_our_loop, run_sync
from .endpoint import Endpoint, load
from .prices import Price, Rate, rate_of
from .response_format import MOST_TRIES, Form, ResponseFormat, ResponseFormats, forms_of, in_words

if TYPE_CHECKING:
    from . import local

DEFAULT_OPENAI_MODEL = "gpt-5.4-nano"
# small models run in circles without the penalty
_LOCAL_DEFAULTS = {"temperature": 0.0, "max_tokens": 256, "repeat_penalty": 1.1}
# bounds a prompt in tokens from above: no tokenizer makes more tokens than bytes, and a chat's
# template adds a few a message
_TEMPLATE_TOKENS, _MESSAGE_TOKENS = 64, 16
_ASKING = ("complete", "request", "_read", "_usage")  # what a subclass may ask otherwise with
_CAPS = ("max_completion_tokens", "max_tokens")  # the parameters that bound an answer
Message = Mapping[str, Any]

# the most tokens of an answer, for requests that do not say: a run with a budget has to know
answer_cap: ContextVar[int | None] = ContextVar("pardspy_answer_cap", default=None)
# the form of the request that is being written, where an endpoint has refused a better one
_asked: ContextVar[ResponseFormat | None] = ContextVar("pardspy_asked", default=None)


class Completion(NamedTuple):
    """One answer of a model: its text and what it used."""

    text: str | None
    usage: Usage
    model: str
    finish_reason: str | None = None
    refusal: str | None = None
    logprobs: Sequence[Mapping[str, Any]] | None = None  # a token each, as OpenAI has them


class LanguageModel(Protocol):
    """A custom LM is any object with this one method (and, if it likes, `timeout_s`)."""

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        strict: bool = True,
        **params: Any,
    ) -> Completion:
        """Answer a chat. `schema` is the JSON schema the text must fit, `strict` whether it is
        in OpenAI's strict form. Raise an `LMError` (or anything with `retryable`) on failure."""


class LM:
    """A model behind any OpenAI-compatible endpoint, or the embedded one.

    Args:
        model: a model's name; `"local"`, `"local:NAME"` or `"local:/path/model.gguf"` for an
            embedded model; None for `PARDSPY_MODEL`, then `EXAMPLES_DEFAULT_MODEL`, then (with
            `OPENAI_API_KEY` set) an inexpensive OpenAI model, else `"local"`.
        base_url: the endpoint; None for `OPENAI_BASE_URL` or OpenAI's own.
        api_key: None for `OPENAI_API_KEY`. Never shown anywhere.
        temperature: passed on when given. The embedded model's default is 0.
        max_tokens: upper bound of an answer's tokens. The embedded model's default is 256.
        timeout_s: wall clock for one call, seconds.
        client: makes the `openai` async client, where the plain one will not do (Azure, an HTTP
            client of your own): `lambda: openai.AsyncAzureOpenAI(…)`. Called once for each event
            loop; `base_url` and `api_key` are then the client's own.
        price: (USD per 1M prompt tokens, USD per 1M completion tokens), with a third figure
            for prompt tokens read from the provider's cache if those cost less; None for the
            price table.
        params: passed on in every request (`seed`, `top_p`, …). For an embedded model
            `threads`, `slots` and `context_tokens` configure its server instead.

    Raises:
        LocalModelError: an embedded model that is not in the catalogue.
        ValueError: a price that is none; `client` beside what it brings.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float = 120.0,
        client: Callable[[], Any] | None = None,
        price: Price | None = None,
        **params: Any,
    ) -> None:
        if client is not None and (model is None or base_url or api_key):
            raise ValueError("client= brings its own base_url and api_key, and needs a model name")
        self.model = model or _default_model(base_url)
        self.timeout_s = timeout_s
        if price is not None:
            rate_of(self.model, "", price)  # refuses what is no price
        self.price = price
        self._local: local.LocalModel | None = None
        self._endpoint = Endpoint(base_url, api_key, client)
        self.params: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        is_ours = base_url is None and client is None
        if is_ours and (self.model == "local" or self.model.startswith("local:")):
            from . import local

            settings = {k: params.pop(k) for k in local.SETTINGS if k in params}
            self._local = local.LocalModel.named(self.model, **settings)
            self.price = price or (0.0, 0.0)
            for name, value in _LOCAL_DEFAULTS.items():
                if self.params.get(name) is None:
                    self.params[name] = value
        self.params = {k: v for k, v in self.params.items() if v is not None} | params

    @property
    def concurrency(self) -> int | None:
        """Requests the endpoint works on at once, where that is known: the embedded model's."""
        return self._local.slots if self._local else None

    @cached_property
    def rate(self) -> Rate | None:
        """What this model's tokens cost, None if nobody knows."""
        return rate_of(self.model, self._endpoint.url, self.price)

    @property
    def identity(self) -> dict[str, Any] | None:
        """What decides this model's answers, beside the prompt; fit for JSON, without the key.
        None where a subclass completes in a way of its own and does not say which."""
        if any(getattr(type(self), name) is not getattr(LM, name) for name in _ASKING):
            return None
        where = self._local.identity if self._local else {"url": self._endpoint.url.rstrip("/")}
        return {"model": self.model, "params": self.params, **where}

    @property
    def endpoint(self) -> Endpoint:
        """Where requests go. ValueError for the embedded model, which starts its own."""
        if self._local is not None:
            raise ValueError(
                f"{self!r} runs on this machine, and has no other face than "
                "chat completions: use run_parallel"
            )
        return self._endpoint

    def without_key(self) -> LM:
        """The same model with the key that is in the environment when it is used."""
        other = copy.copy(self)
        other._endpoint = Endpoint(self._endpoint.base_url, None, self._endpoint.make)
        return other

    def completion_of(self, answer: Mapping[str, Any], latency_ms: float = 0.0) -> Completion:
        """What the body of an answer to `request` says. ServerError if it is none."""
        return self._read(answer, latency_ms)

    def serve(self) -> tuple[str, str]:
        """Start the embedded model, for other clients (DSPy, LangChain, curl): its base URL on
        loopback and its key. It ends with this process.

        Raises:
            LocalModelError: it cannot be fetched or started.
            ValueError: this is no embedded model.
        """
        if self._local is None:
            raise ValueError(f"{self!r} is served elsewhere; serve() is for pn.LM('local')")
        return run_sync(_serve(self._local))

    async def prepare(self) -> None:
        """Start the embedded model, or see that the endpoint can be reached; nothing is paid.

        Raises:
            LocalModelError: the embedded model cannot be fetched or started.
            EndpointConnectionError, AuthenticationError: as `Endpoint.check`.
        """
        # the first use imports these, half a second that would hold up every row in flight
        await asyncio.to_thread(_load)
        if self._local:
            await _serve(self._local)
        else:
            await self._endpoint.check()

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        strict: bool = True,
        **params: Any,
    ) -> Completion:
        """Send one chat completion; see `LanguageModel`. Raises an `LMError`.

        A form of the request that the endpoint refuses is not used again (see `forms`)."""
        endpoint = self._endpoint
        if self._local:
            endpoint = Endpoint(*await _serve(self._local))
        best = asked = self._forms.best(schema)
        for _ in range(MOST_TRIES):
            body = self._body(asked, messages, schema=schema, strict=strict, **params)
            start = time.perf_counter()
            try:
                answer = await on_our_loop(partial(endpoint.post, "/chat/completions", body))
            except BadRequestError as error:
                lower = asked.lower(
                    str(error), has_schema=schema is not None, has_logprobs="logprobs" in body
                )
                if lower is None:
                    raise
                asked = lower
                continue
            self._forms.worked(schema, asked, fell=asked != best)
            return self._read(answer, (time.perf_counter() - start) * 1e3)
        raise AssertionError("forms get lower until there is none")

    def _body(
        self, asked: ResponseFormat, messages: Sequence[Message], **more: Any
    ) -> dict[str, Any]:
        token = _asked.set(asked)
        try:
            return self.request(messages, **more)
        finally:
            _asked.reset(token)

    @cached_property
    def _forms(self) -> ResponseFormats:
        return forms_of(self._endpoint.url, self.model)

    @property
    def is_known(self) -> bool:
        """Whether it is known what form of request the endpoint takes."""
        own = any(getattr(type(self), name) is not getattr(LM, name) for name in _ASKING)
        return own or self._local is not None or self._forms.is_known

    def request(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        strict: bool = True,
        **params: Any,
    ) -> dict[str, Any]:
        """The body that `complete` sends, as far as the endpoint is known."""
        model = self._local.name if self._local else self.model
        body = {"model": model, "messages": list(messages), **self.params, **params}
        cap = answer_cap.get()
        if cap is not None and not _caps(body):
            body = {k: v for k, v in body.items() if k not in _CAPS} | {"max_tokens": cap}
        if self._endpoint.is_openai and not self._local and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        asked = _asked.get() or self._forms.best(schema)
        if body.get("top_logprobs", 0) > asked.logprobs:
            body["top_logprobs"] = asked.logprobs
            if not asked.logprobs:
                body = {k: v for k, v in body.items() if "logprobs" not in k}
        if schema is not None:
            _ask_for(body, asked.form, schema, strict)
        return body

    def worst_case(self, messages: Sequence[Message], **more: Any) -> Bound:
        """The most that `complete` with the same arguments can use.

        A prompt has at most as many tokens as its request has bytes, and some for the chat's
        template (which holds as well for a schema that has to be sent in words); an answer as
        many as `max_tokens` lets it (times `n`).

        Raises:
            ValueError: the price is not known, or nothing bounds the answer.
        """
        body = self.request(messages, **more)
        caps = _caps(body)
        if self.rate is None:
            raise ValueError(
                f"the price of {self.model!r} is not known: give it, in USD per 1M tokens, with "
                "LM(price=(prompt, completion))"
            )
        if not caps:
            raise ValueError("nothing bounds an answer's length; give LM(max_tokens=…)")
        prompt = len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
        prompt += _TEMPLATE_TOKENS + _MESSAGE_TOKENS * len(messages)
        completion = max(caps) * int(body.get("n") or 1)
        return Bound(prompt, completion, self.rate.cost_usd(prompt, completion))

    def _read(self, answer: Mapping[str, Any], latency_ms: float) -> Completion:
        usage = self._usage(answer.get("usage"), latency_ms)
        record(usage)  # billed, whatever the rest of the answer is worth
        try:
            choice = answer["choices"][0]
            message = choice["message"]
            text, refusal = message.get("content"), message.get("refusal")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise ServerError(
                f"the endpoint's answer has no choices[0].message: {str(answer)[:80]!r}",
                usage=usage,
            ) from None
        text = text if isinstance(text, str) else None
        model = str(answer.get("model") or self.model)
        told = choice.get("logprobs")
        tokens = told.get("content") if isinstance(told, dict) else None
        return Completion(
            text,
            usage,
            model,
            choice.get("finish_reason"),
            refusal,
            tokens if isinstance(tokens, list) else None,
        )

    def _usage(self, reported: Any, latency_ms: float) -> Usage:
        reported = reported if isinstance(reported, dict) else {}
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        prompt, completion, total = (_count(reported.get(name)) for name in names)
        details = reported.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        cached = cached if isinstance(cached, int) and cached >= 0 else 0
        if prompt is None or completion is None:
            return Usage(prompt, completion, total, None, latency_ms)
        cost = None if self.rate is None else self.rate.cost_usd(prompt, completion, cached)
        total = prompt + completion if total is None else total
        return Usage(prompt, completion, total, cost, latency_ms)

    def __getstate__(self) -> dict[str, Any]:
        """All but what this process has found out of the endpoint."""
        return {name: value for name, value in self.__dict__.items() if name != "_forms"}

    def __repr__(self) -> str:
        where = "" if self._local else f", base_url={self._endpoint.url!r}"
        return f"LM({self.model!r}{where})"


def _ask_for(body: dict[str, Any], form: Form, schema: Mapping[str, Any], strict: bool) -> None:
    """Have the answer fit a schema, in this form."""
    if form == "json_schema":
        described = {"name": "answer", "strict": strict, "schema": schema}
        body["response_format"] = {"type": form, "json_schema": described}
        return
    body.pop("response_format", None)
    if form == "json_object":
        body["response_format"] = {"type": form}
    first, *rest = body["messages"]
    body["messages"] = [{**first, "content": f"{first['content']}\n{in_words(schema)}"}, *rest]


async def _serve(model: local.LocalModel) -> tuple[str, str]:
    from . import local

    return await local.serve(model)


def _caps(body: Mapping[str, Any]) -> list[int]:
    """What bounds an answer; -1 and the like bound nothing."""
    given = (body.get(name) for name in _CAPS)
    return [n for n in given if isinstance(n, int) and n > 0]


def _count(value: Any) -> int | None:
    """What an endpoint reports as a number of tokens may be anything."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if whole else None


def _load() -> None:
    load()
    importlib.import_module("genai_prices")


def _default_model(base_url: str | None) -> str:
    named = os.environ.get("PARDSPY_MODEL") or os.environ.get("EXAMPLES_DEFAULT_MODEL")
    if named:
        return named
    if base_url is None and not os.environ.get("OPENAI_API_KEY"):
        return "local"
    return DEFAULT_OPENAI_MODEL
