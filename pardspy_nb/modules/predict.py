"""Predict: one row's inputs through a model, back as typed outputs."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from ..core.errors import AttemptError, InvalidOutputError, RefusedOutputError
from ..core.events import Answer
from ..core.overrides import overrides
from ..core.usage import Bound, UsageScope, record, total, usage_from
from ..llm.background_loop import run_sync
from ..llm.known_params import refuse_unknown
from ..llm.lm import LM, LanguageModel
from ..llm.response import Completion
from ..signatures.fields import Field
from ..signatures.logprobs import as_columns, columns_for, distributions
from ..signatures.output_parser import AnswerParser
from ..signatures.signature import Signature, as_signature
from .history import History
from .prediction import Prediction
from .prompt import Prompt

_LOGPROBS = {"logprobs": True, "top_logprobs": 20}
_MAX_SENT_BACK = 2  # answers sent back by `acall`, which no engine retries


class Predict:
    """Ask a model for the outputs of a signature.

    Args:
        signature: a `Signature`, a declared class, or a string such as `"text -> label"`.
        lm: an `LM` or any `LanguageModel`; None for `LM()`.
        demos: worked examples, dicts with every required input and output.
        history: a `History` that this module reads and extends.
        instructions: replaces the signature's instructions.
        confidence: for each class output add `<name>_confidence`, the probability of its label
            in [0, 1], and `<name>_probabilities`, the probability of every label (see
            `signatures.logprobs`). These are missing if the endpoint reports no log probabilities.
        extra_body: fields of each request that only your endpoint knows.
        params: sent with every request (`temperature`, `max_tokens`, `seed`, …).

    Raises:
        TypeError: a parameter that no request has.
        ValueError: a demo lacks a field, or the signature is not usable.
    """

    asks_once: ClassVar[bool] = True  # whether an engine's attempt may be one `ask`
    requests_are_known: ClassVar[bool] = True  # whether `request` is what `ask` sends
    _asks_itself: ClassVar[bool] = False  # a subclass replaces the asking or the reading

    def __init__(
        self,
        signature: Any,
        lm: LanguageModel | None = None,
        *,
        demos: Iterable[Mapping[str, Any]] = (),
        history: History | None = None,
        instructions: str | None = None,
        confidence: bool = False,
        extra_body: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> None:
        signature = self._prepare(as_signature(signature))
        if instructions is not None:
            signature = signature.with_instructions(instructions)
        self.signature: Signature = signature
        self.lm: LanguageModel = LM() if lm is None else lm
        if not callable(getattr(self.lm, "complete", None)):
            raise TypeError(f"lm has no method complete(messages, …): {self.lm!r}; use pn.LM(name)")
        if isinstance(self.lm, LM):
            refuse_unknown(params, "Predict", local=self.lm.is_local)
        self.history = history
        self.params = params | dict(extra_body or {})
        self._parser = AnswerParser(signature)
        self.demos = [dict(demo) for demo in demos]
        self._prompt = Prompt(signature, self.demos, self._parser.schema)
        self._confidence_columns = columns_for(signature.outputs) if confidence else {}

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.asks_once = not overrides(cls, Predict.acall)
        cls.requests_are_known = not overrides(cls, Predict.acall, Predict.ask)
        cls._asks_itself = overrides(cls, Predict.acall, Predict.ask, Predict.read, Predict.words)

    def _prepare(self, signature: Signature) -> Signature:
        """The signature, with the additions of a subclass."""
        return signature

    @property
    def timeout_s(self) -> float | None:
        """Wall clock for one call: the LM's own."""
        return getattr(self.lm, "timeout_s", None)

    @property
    def columns(self) -> Mapping[str, Field]:
        """The columns of an answer: the signature's outputs, and the columns of `confidence`."""
        return {**self.signature.outputs, **self._confidence_columns}

    @property
    def is_confident(self) -> bool:
        """Whether answers hold the probabilities of labels."""
        return bool(self._confidence_columns)

    def varied(self, *, confidence: bool | None = None, **params: Any) -> Self:
        """The same module with other parameters, or with `confidence`."""
        other = copy.copy(self)
        other.params = self.params | params
        if confidence is not None:
            other._confidence_columns = columns_for(self.signature.outputs) if confidence else {}
        return other

    def with_demos(self, demos: Any, n: int = 8) -> Self:
        """The same module with worked examples.

        Args:
            demos: a `Review`, whose decided rows become examples (those first on which the model
                was wrong), or dicts with every required input and output.
            n: at most so many.

        Raises:
            ValueError: an example lacks a required input or output, or there is none.
        """
        if hasattr(demos, "demos"):
            optional = {name: field.optional for name, field in self.signature.outputs.items()}
            demos = demos.demos(n, optional)
        other = copy.copy(self)
        other.demos = [dict(demo) for demo in list(demos)[:n]]
        if not other.demos:
            raise ValueError("there is no example: no decided row has all outputs of this module")
        other._prompt = Prompt(self.signature, other.demos, self._parser.schema)
        return other

    async def ask(self, inputs: Mapping[str, Any], before: BaseException | None = None) -> Answer:
        """One attempt, without a wall clock. Raises an `AttemptError`, which carries usage.

        Args:
            inputs: the inputs of the row.
            before: the error of the previous attempt. An answer that did not fit is shown to the
                model together with its error.
        """
        rejected = _rejected(before)
        try:
            return await self._ask(inputs, rejected)
        except AttemptError as error:
            if not isinstance(error, InvalidOutputError):
                error.rejected = rejected  # to be sent back again once the endpoint answers
                if rejected is not None and error.args:
                    first = f"before, the answer did not fit: {rejected}"
                    error.args = (f"{error.args[0]} ({first})", *error.args[1:])
            raise

    async def ask_again(self, inputs: Mapping[str, Any], before: BaseException | None) -> Answer:
        """`ask`, also for a subclass whose `ask` takes the inputs alone."""
        if before is None or overrides(type(self), Predict.ask):
            return await self.ask(inputs)
        return await self.ask(inputs, before)

    async def _ask(self, inputs: Mapping[str, Any], rejected: InvalidOutputError | None) -> Answer:
        messages = self._messages(inputs, rejected)
        with UsageScope() as calls:
            completion = await self.lm.complete(messages, **self._schema, **self._request_params)
            if not calls:  # a custom LM, which does not record its calls
                record(completion.usage)
                completion = _of_custom_lm(completion)
        answer = self.answer_of(completion)
        if (learn := getattr(self.lm, "fitted", None)) is not None:
            learn(messages, self._parser.schema, again=rejected is not None)
        if self.history is not None:
            self.history.add(self.words(inputs), completion.text or "")
        return answer if rejected is None else answer._replace(repaired="asked again")

    def answer_of(self, completion: Completion) -> Answer:
        """A completion as the row's answer. InvalidOutputError if it does not fit the signature."""
        if completion.refusal:
            raise RefusedOutputError(
                f"the model declined: {completion.refusal[:200]}", usage=completion.usage
            )
        outputs, repaired, start = self._parser.parse(
            completion.text, completion.finish_reason, completion.usage
        )
        text = completion.text or ""
        if self._confidence_columns:
            fields, tokens = self.signature.outputs, completion.logprobs
            found = (
                {} if start is None or not tokens else distributions(text, start, tokens, fields)
            )
            outputs |= as_columns(found, outputs, fields)
            text = json.dumps([text, found])
        return Answer(
            outputs,
            completion.usage,
            completion.model,
            completion.finish_reason,
            text,
            repaired=repaired,
        )

    @property
    def _schema(self) -> dict[str, Any]:
        return {"schema": self._parser.schema, "strict": self._parser.strict}

    @property
    def _request_params(self) -> dict[str, Any]:
        return {**_LOGPROBS, **self.params} if self._confidence_columns else self.params

    def request(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The request that `ask` would send for these inputs; nothing is sent."""
        messages = self._messages(inputs)
        write = getattr(self.lm, "request", None)
        if write is None:  # a custom LM
            return {"messages": messages, **self._schema, **self._request_params}
        body: dict[str, Any] = write(messages, **self._schema, **self._request_params)
        return body

    @property
    def can_bound_cost(self) -> bool:
        """Whether `worst_case` holds for `ask`.

        This needs one known request for each row, and an LM that knows the most that it costs.
        """
        has_bound = hasattr(self.lm, "worst_case") and getattr(self.lm, "can_bound_cost", True)
        return self.requests_are_known and has_bound

    def worst_case(self, inputs: Mapping[str, Any], before: BaseException | None = None) -> Bound:
        """The most that one `ask` with the same arguments can use.

        Raises:
            ValueError: the price is unknown, or a custom LM has no `worst_case`.
        """
        worst_case = getattr(self.lm, "worst_case", None)
        if worst_case is None:
            raise ValueError(f"the cost of a call is not known: {self.lm!r} has no worst_case")
        messages = self._messages(inputs, _rejected(before))
        bound: Bound = worst_case(messages, **self._schema, **self._request_params)
        return bound

    def _messages(
        self, inputs: Mapping[str, Any], rejected: InvalidOutputError | None = None
    ) -> list[Any]:
        past = self.history.messages if self.history is not None else []
        return self._prompt.messages(inputs, rejected, past)

    def words(self, inputs: Mapping[str, Any]) -> str:
        """A row's own part of the prompt, with a hash in place of each image."""
        return self._prompt.words(inputs)

    @property
    def cache_identity(self) -> list[Any] | None:
        """All that decides the answers, except a row's inputs (see `fixed`).

        None if this is not known: the model has no `cache_identity`, parameters are not fit for
        JSON, the module has a history, or a subclass replaces the asking or the reading.
        """
        model = getattr(self.lm, "cache_identity", None)
        if self._asks_itself or self.history is not None or model is None:
            return None
        try:
            json.dumps(self.fixed)
        except TypeError:
            return None
        return self.fixed

    @property
    def fixed(self) -> list[Any]:
        """All that decides the answers, except a row's inputs.

        These are the model, endpoint, parameters, schema, and the messages that are the same for
        every row (instructions, demos).
        """
        model = getattr(self.lm, "cache_identity", None)
        form = [
            self._parser.schema,
            self._parser.strict,
            *(["confidence"] if self._confidence_columns else []),
        ]
        return [model, self.params, form, self._prompt.system, self._prompt.examples]

    @property
    def prompt_sha256(self) -> str:
        """The hash of the part of a prompt that is the same for every row, with the schema."""
        return hashlib.sha256(json.dumps(self.fixed[2:], sort_keys=True).encode()).hexdigest()

    def read(self, text: str, finish_reason: str | None) -> tuple[dict[str, Any], str | None]:
        """The outputs in an `Answer`'s text, and how the text was repaired.

        Raises:
            InvalidOutputError: the text does not fit the signature.
        """
        found: dict[str, Any] = {}
        if self._confidence_columns:
            text, found = json.loads(text)
        outputs, repaired, _ = self._parser.parse(text, finish_reason, None)
        if self._confidence_columns:
            outputs |= as_columns(found, outputs, self.signature.outputs)
        return outputs, repaired

    async def acall(self, *args: Any, **inputs: Any) -> Prediction:
        """Ask for one row; an answer that does not fit is sent back twice at most.

        Raises:
            TypeError: an input without its name; nothing was sent.
            ValueError: inputs are missing, unknown or of a wrong type; nothing was sent.
            AttemptError: the endpoint failed, or the answer does not fit the signature.
            TimeoutError: no answer within `timeout_s`.
        """
        self._check(args, inputs)
        with UsageScope() as calls:
            async with asyncio.timeout(self.timeout_s):
                answer = await self._ask_until_it_fits(inputs)
        usage = total(calls) if len(calls) > 1 else answer.usage
        return Prediction(
            answer.outputs, inputs=inputs, usage=usage, module_name=type(self).__name__
        )

    async def _ask_until_it_fits(self, inputs: Mapping[str, Any]) -> Answer:
        before: InvalidOutputError | None = None
        for _ in range(_MAX_SENT_BACK):
            try:
                return await self.ask_again(inputs, before)
            except InvalidOutputError as error:
                if not error.retryable:
                    raise
                before = error
        return await self.ask_again(inputs, before)

    def __call__(self, *args: Any, **inputs: Any) -> Prediction:
        """`acall`, from synchronous code; works inside a running event loop too."""
        return run_sync(self.acall(*args, **inputs))

    def _check(self, args: Sequence[Any], inputs: Mapping[str, Any]) -> None:
        fields = self.signature.inputs
        first = next(iter(fields), "…")
        if args:
            raise TypeError(
                f"a module takes its inputs by name, one row at a time: predict({first}=…). For "
                f"many rows: run_parallel(predict, {{{first!r}: […]}})"
            )
        missing = [n for n, f in fields.items() if n not in inputs and not f.optional]
        unknown = [n for n in inputs if n not in fields]
        if missing or unknown:
            raise ValueError(
                f"missing inputs {missing}, unknown inputs {unknown}; the signature takes "
                f"{list(fields)}"
            )
        for name, value in inputs.items():
            try:
                fields[name].adapter.validate_python(value)
            except ValueError as error:  # pydantic's has lines of its own
                many = hasattr(value, "__len__") and not isinstance(value, str | bytes | dict)
                hint = f"; for many rows: run_parallel(predict, {{{name!r}: […]}})" if many else ""
                raise ValueError(
                    f"input {name!r} must be {fields[name].type_name}, and is "
                    f"{type(value).__name__}: {reprlib.repr(value)}{hint}"
                ) from (None if many else error)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.signature!r}, {self.lm!r})"


class ChainOfThought(Predict):
    """`Predict` that reasons first, into an extra output `reasoning`."""

    def _prepare(self, signature: Signature) -> Signature:
        return signature.with_output_first(Field("reasoning", str, "Think step by step"))


def _of_custom_lm(completion: Completion) -> Completion:
    """A completion with a usage that can be added up. InvalidOutputError if its text is no text."""
    usage, text = usage_from(completion.usage), completion.text
    if text is not None and not isinstance(text, str):
        raise InvalidOutputError(f"the LM returned a {type(text).__name__}, not text", usage=usage)
    return completion._replace(usage=usage)  # type: ignore[arg-type]


def _rejected(before: BaseException | None) -> InvalidOutputError | None:
    """The answer to send back: from the last attempt, or from an attempt before it."""
    if isinstance(before, InvalidOutputError):
        return before
    rejected: InvalidOutputError | None = getattr(before, "rejected", None)
    return rejected
