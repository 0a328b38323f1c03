"""Language models: the model, its endpoint and its parameters."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..core.errors import LMError
from ..core.overrides import overrides
from ..core.usage import Bound
from .background_loop import on_our_loop, run_sync
from .endpoint import Endpoint
from .known_params import refuse_no_number, refuse_unknown
from .prices import Price, Rate, rate_of
from .providers import provider_of
from .request import Message, answer_bounds, prompt_bound, request_body, row_of
from .response import Completion, read_completion
from .response_format import FORMS, MOST_TRIES, Form, ResponseFormat, ResponseFormats, formats_of

if TYPE_CHECKING:
    from .fake import FakeEndpoint  # imported when needed only, as the embedded model's
    from .local.endpoint import LocalEndpoint

DEFAULT_OPENAI_MODEL = "gpt-5.4-nano"
OnHeaders = Callable[[Mapping[str, str]], None]


class LanguageModel(Protocol):
    """A custom LM is any object with this one method.

    The object may also have:

    - `timeout_s`, the seconds for one call;
    - `cache_identity`, a dict that identifies the model, so that its answers can be cached;
    - `worst_case(messages, **more) -> Bound`, the most that a call can cost, for budgets.
    """

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
        model: a model's name. With the name of a provider (`"anthropic/claude-…"`, see
            `llm.providers`), that provider's endpoint and key are used, unless `base_url` is given.
            `"local"`, `"local:NAME"` or `"local:/path/model.gguf"` for an embedded model; `"fake"`
            for one that costs nothing and knows nothing (see `testing.FakeLM`); None for
            `PARDSPY_MODEL`, then `EXAMPLES_DEFAULT_MODEL`, then (with `OPENAI_API_KEY` set) an
            inexpensive OpenAI model, else `"local"`.
        base_url: the endpoint; None for `OPENAI_BASE_URL` or OpenAI's own.
        api_key: None for `OPENAI_API_KEY`. Never shown anywhere.
        temperature: passed on when given. The embedded model's default is 0.
        max_tokens: upper bound of an answer's tokens. The embedded model's default is 256.
        timeout_s: wall clock for one call, seconds.
        client: a function that makes the `openai` async client, if the default one is not enough
            (Azure, an HTTP client of your own): `lambda: openai.AsyncAzureOpenAI(…)`. It is called
            once for each event loop. `base_url` and `api_key` are then the client's own.
        form: how the answer's schema is sent: `"json_schema"`, `"json_object"` or `"text"`; None to
            find out what the endpoint takes (see `capabilities`).
        extra_body: further fields of each request's body, as in the `openai` client.
        extra_headers, default_headers, default_query: further headers, and fields of the query, of
            each request.
        max_answer_mb: the most megabytes of an answer, unpacked; a longer one is not read to its
            end, and its row fails.
        price: (USD per 1M prompt tokens, USD per 1M completion tokens). A third figure is for
            prompt tokens read from the provider's cache, if these cost less. None for the price
            table.
        params: passed on in every request (`seed`, `top_p`, …). For an embedded model
            `threads`, `slots` and `context_tokens` configure its server instead.

    Raises:
        TypeError: a parameter that no request has; what only your endpoint knows is `extra_body`.
        LocalModelError: an embedded model that is not in the catalogue.
        ValueError: the price is not valid; or `client` is given without `model`, or beside
            `base_url` or `api_key`.
    """

    can_bound_cost: ClassVar[bool] = True  # whether `worst_case` holds for `complete`
    _completes_itself: ClassVar[bool] = False  # a subclass replaces the request or its reading

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
        form: Form | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, str] | None = None,
        max_answer_mb: float = 16.0,
        **params: Any,
    ) -> None:
        if client is not None and (model is None or base_url or api_key):
            raise ValueError("client= brings its own base_url and api_key, and needs a model name")
        self.model = model or _default_model(base_url)
        self.timeout_s = timeout_s
        if price is not None:
            rate_of(self.model, "", price)  # refuses an invalid price
        if form is not None and form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        self._form = form
        self._endpoint: Endpoint | LocalEndpoint | FakeEndpoint
        headers = {**(default_headers or {}), **(extra_headers or {})}
        if not max_answer_mb > 0:
            raise ValueError(f"max_answer_mb must be above 0, got {max_answer_mb!r}")
        most_bytes = int(max_answer_mb * 1e6)
        more = tuple(headers.items()), tuple((default_query or {}).items())
        if base_url is None and client is None and _is_local(self.model):
            from .local.endpoint import local_endpoint

            self._endpoint = local_endpoint(self.model, params)
        elif base_url is None and client is None and self.model == "fake":
            from .fake import FakeEndpoint

            self._endpoint = FakeEndpoint()
        else:
            found = _endpoint(self.model, base_url, api_key, client, more)
            self._endpoint = replace(found, most_bytes=most_bytes)
        refuse_unknown(params, "LM", local=self.is_local)
        refuse_no_number(temperature=temperature, max_tokens=max_tokens, timeout_s=timeout_s)
        self.price = price or self._endpoint.default_price
        own = {"temperature": temperature, "max_tokens": max_tokens}
        given = {name: value for name, value in own.items() if value is not None} | params
        given |= extra_body or {}
        self.params: dict[str, Any] = {**self._endpoint.default_params, **given}
        self._on_headers: list[OnHeaders] = []

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls._completes_itself = overrides(cls, LM.complete, LM.request, LM.read)
        if "can_bound_cost" not in vars(cls):
            cls.can_bound_cost = not cls._completes_itself or overrides(cls, LM.worst_case)

    @property
    def is_local(self) -> bool:
        """Whether the model is embedded."""
        return self._endpoint.is_local

    @property
    def concurrency(self) -> int | None:
        """Requests that the endpoint handles at once; None unless the model is embedded."""
        return self._endpoint.concurrency

    @cached_property
    def rate(self) -> Rate | None:
        """The price of this model's tokens, None if it is unknown."""
        return rate_of(self.model, self._endpoint.url, self.price)

    @property
    def cache_identity(self) -> dict[str, Any] | None:
        """All that decides this model's answers, except the prompt; fit for JSON, without the key.

        None for a subclass that replaces `complete`, `request` or `read` without a
        `cache_identity` of its own.
        """
        if self._completes_itself:
            return None
        return {"model": self.model, "params": self.params, **self._endpoint.cache_identity}

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint. ValueError for the embedded model, which starts its own server."""
        if not isinstance(self._endpoint, Endpoint):
            raise ValueError(
                f"{self!r} runs on this machine and offers chat completions only: use run_parallel"
            )
        return self._endpoint

    def without_key(self) -> LM:
        """The same model without its key: each use reads the key from the environment."""
        other = copy.copy(self)
        other._endpoint = replace(self.endpoint, api_key=None)
        return other

    def serve(self) -> tuple[str, str]:
        """Start the embedded model's server for other clients (DSPy, LangChain, curl).

        The server ends with this process.

        Returns:
            The server's base URL on loopback, and its key.

        Raises:
            LocalModelError: the model cannot be fetched or started.
            ValueError: the model is not embedded.
        """
        if isinstance(self._endpoint, Endpoint):
            raise ValueError(f"{self!r} is not an embedded model; serve() is for pn.LM('local')")
        return run_sync(self._endpoint.serve())

    async def prepare(self) -> None:
        """Start the embedded model, or check that the endpoint can be reached; nothing is paid.

        Raises:
            LocalModelError: the embedded model cannot be fetched or started.
            EndpointConnectionError, AuthenticationError: as `Endpoint.check`.
        """
        await self._endpoint.prepare()

    @contextmanager
    def listening(self, on_headers: OnHeaders) -> Iterator[None]:
        """A scope in which a function is called with the headers of each response."""
        self._on_headers.append(on_headers)
        try:
            yield
        finally:
            self._on_headers.remove(on_headers)

    def _show_headers(self, headers: Mapping[str, str]) -> None:
        for on_headers in tuple(self._on_headers):
            on_headers(headers)

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        strict: bool = True,
        **params: Any,
    ) -> Completion:
        """Send one chat completion; see `LanguageModel`. Raises an `LMError`.

        A response format that the endpoint refuses is not used again (see `response_format`).
        """
        row, best = row_of(messages), self._formats.best(schema)
        form = self._formats.first(schema, row)
        is_told, first = form == best, None
        for _ in range(MOST_TRIES):
            body = self.request(messages, schema=schema, strict=strict, form=form, **params)
            post = partial(self._endpoint.post, "/chat/completions", body, self._show_headers)
            start = time.perf_counter()
            try:
                answer = await on_our_loop(post)
            except LMError as error:
                first = first or error
                if error.outage or error.status_code is None:
                    raise  # nothing was refused, or for another reason
                has_logprobs = "logprobs" in body
                lower = self._formats.next(
                    form, error, schema=schema, has_logprobs=has_logprobs, row=row
                )
                if lower is None:
                    if not is_told:
                        self._formats.refused(row)
                    raise (error if is_told else first) from None
                form, names_the_form = lower
                is_told = is_told and names_the_form
                continue
            self._formats.worked(schema, form, better=best, is_told=is_told, row=row)
            return self.read(answer, (time.perf_counter() - start) * 1e3)
        raise AssertionError("each refusal lowers the response format until none is left")

    def fitted(
        self, messages: Sequence[Message], schema: Mapping[str, Any], *, again: bool
    ) -> None:
        """Learn from an answer that fits: at once, or, `again`, once the schema was in words."""
        self._formats.fitted(schema, in_words=again, row=row_of(messages))

    @cached_property
    def _formats(self) -> ResponseFormats:
        return formats_of(self._endpoint.url, self.model, self._form)

    @property
    def capabilities(self) -> dict[str, Any]:
        """What was found out about the endpoint, or set by hand: the `form` of requests, how many
        alternatives of a token it tells (`logprobs`), whether it ignores schemas so that they
        are in words, too (`ignores_schemas`), and whether an answer has shown this yet
        (`is_known`)."""
        best = self._formats.best(None)
        return {
            "form": best.form,
            "logprobs": best.logprobs,
            "ignores_schemas": self._formats.ignores_schemas,
            "is_known": self.is_known,
        }

    @property
    def is_known(self) -> bool:
        """Whether the response format that the endpoint accepts is known."""
        is_given = self._completes_itself or self.is_local
        return is_given or self._formats.is_known

    def request(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        strict: bool = True,
        form: ResponseFormat | None = None,
        **params: Any,
    ) -> dict[str, Any]:
        """The body that `complete` sends.

        `form` is the response format, None for the best one that the endpoint is known to accept.
        """
        return request_body(
            self._endpoint.model_name(self.model),
            messages,
            {**self.params, **params},
            schema=schema,
            strict=strict,
            form=form or self._formats.best(schema),
            renames_max_tokens=self._endpoint.renames_max_tokens,
        )

    def read(self, answer: Mapping[str, Any], latency_ms: float = 0.0) -> Completion:
        """The completion in the body of an answer. ServerError if the body has no message."""
        return read_completion(answer, model=self.model, rate=self.rate, latency_ms=latency_ms)

    def bounds_answers(self, params: Mapping[str, Any]) -> bool:
        """Whether these parameters, or the LM's own, limit the length of an answer."""
        return bool(answer_bounds({**self.params, **params}))

    def worst_case(self, messages: Sequence[Message], **more: Any) -> Bound:
        """The most that `complete` with the same arguments can use.

        A prompt has at most as many tokens as its request has bytes, plus some for the chat
        template. An answer has at most `max_tokens` tokens (times `n`).

        Raises:
            ValueError: the price is not known, or nothing bounds the answer.
        """
        body = self.request(messages, **more)
        bounds = answer_bounds(body)
        if self.rate is None:
            raise ValueError(
                f"the price of {self.model!r} is not known: set it, in USD per 1M tokens, with "
                "LM(price=(prompt, completion))"
            )
        if not bounds:
            raise ValueError("the length of an answer has no limit; set LM(max_tokens=…)")
        prompt = prompt_bound(body)
        completion = max(bounds) * int(body.get("n") or 1)
        return Bound(prompt, completion, self.rate.cost_usd(prompt, completion))

    def __getstate__(self) -> dict[str, Any]:
        """All attributes but those of this process: learnt formats, header listeners."""
        return {n: v for n, v in self.__dict__.items() if n not in ("_formats", "_on_headers")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._on_headers = []

    def __repr__(self) -> str:
        where = f", base_url={self._endpoint.shown_url!r}" if self._endpoint.url else ""
        return f"LM({self.model!r}{where})"


def _endpoint(
    model: str,
    base_url: str | None,
    api_key: str | None,
    client: Callable[[], Any] | None,
    more: tuple[Any, Any],
) -> Endpoint:
    """The endpoint of a model: the given one, or that of the provider in the model's name."""
    is_given = base_url or client is not None or os.environ.get("OPENAI_BASE_URL")
    found = None if is_given else provider_of(model)
    if found is None:
        return Endpoint(base_url, api_key, client, headers=more[0], query=more[1])
    return Endpoint(found.url, api_key, None, found.keys, *more, known_as=found.model)


def _is_local(model: str) -> bool:
    return model == "local" or model.startswith("local:")


def _default_model(base_url: str | None) -> str:
    named = os.environ.get("PARDSPY_MODEL") or os.environ.get("EXAMPLES_DEFAULT_MODEL")
    if named:
        return named
    if base_url is None and not os.environ.get("OPENAI_API_KEY"):
        return "local"
    return DEFAULT_OPENAI_MODEL
