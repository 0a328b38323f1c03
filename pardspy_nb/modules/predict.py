"""Predict: one row's inputs through a model, back as typed outputs."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

from ..core.errors import AttemptError, InvalidOutputError, RefusedOutputError, TruncatedOutputError
from ..core.events import Answer
from ..core.usage import Bound, UsageScope, record, total
from ..llm.background_loop import run_sync
from ..llm.lm import LM, Completion, LanguageModel
from ..signatures.fields import Field
from ..signatures.image import Image
from ..signatures.logprobs import as_columns, columns_for, distributions
from ..signatures.output_parser import AnswerParser
from ..signatures.signature import Signature, as_signature
from .history import History
from .prediction import Prediction

_LOGPROBS = {"logprobs": True, "top_logprobs": 20}
_SHOWN_BACK = 1000  # characters of it
_SENT_BACK = 2  # times that an answer which does not fit is, where no engine tries again


class Predict:
    """Ask a model for the outputs of a signature.

    Args:
        signature: a `Signature`, a declared class, or a string such as `"text -> label"`.
        lm: an `LM` or any `LanguageModel`; None for `LM()`.
        demos: worked examples, dicts with every required input and output.
        history: a `History` that this module reads and extends.
        instructions: replaces the signature's.
        confidence: for each class output add `<name>_confidence`, the probability of its label
            in [0, 1], and `<name>_probabilities`, that of every label (see `confidence`); missing
            where the endpoint reports no log probabilities.
        params: sent with every request (`temperature`, `max_tokens`, `seed`, …).

    Raises:
        ValueError: a demo lacks a field, or the signature is not usable.
    """

    def __init__(
        self,
        signature: Any,
        lm: LanguageModel | None = None,
        *,
        demos: Iterable[Mapping[str, Any]] = (),
        history: History | None = None,
        instructions: str | None = None,
        confidence: bool = False,
        **params: Any,
    ) -> None:
        signature = self._prepare(as_signature(signature))
        if instructions is not None:
            signature = signature.with_instructions(instructions)
        self.signature: Signature = signature
        self.lm: LanguageModel = LM() if lm is None else lm
        if not callable(getattr(self.lm, "complete", None)):
            raise TypeError(f"lm has no method complete(messages, …): {self.lm!r}; use pn.LM(name)")
        self.history = history
        self.params = params
        self._parser = AnswerParser(signature)
        self._images = [n for n, f in signature.inputs.items() if f.value_type is Image]
        self._system = {"role": "system", "content": _system_text(signature)}
        self.demos = [dict(demo) for demo in demos]
        self._examples = [m for i, demo in enumerate(self.demos) for m in self._example(i, demo)]
        self._sureness = columns_for(signature.outputs) if confidence else {}

    def _prepare(self, signature: Signature) -> Signature:
        """What a subclass adds to the signature."""
        return signature

    @property
    def timeout_s(self) -> float | None:
        """Wall clock for one call: the LM's own."""
        return getattr(self.lm, "timeout_s", None)

    @property
    def columns(self) -> Mapping[str, Field]:
        """What an answer holds: the signature's outputs, and those that `confidence` adds."""
        return {**self.signature.outputs, **self._sureness}

    @property
    def is_confident(self) -> bool:
        """Whether answers hold the probabilities of labels."""
        return bool(self._sureness)

    def varied(self, *, confidence: bool | None = None, **params: Any) -> Self:
        """The same module with other parameters, or with `confidence`."""
        other = copy.copy(self)
        other.params = self.params | params
        if confidence is not None:
            other._sureness = columns_for(self.signature.outputs) if confidence else {}
        return other

    async def ask(self, inputs: Mapping[str, Any], before: BaseException | None = None) -> Answer:
        """One attempt, without a wall clock. Raises an `AttemptError`, which carries usage.

        Args:
            inputs: the row's.
            before: what the attempt before this one failed with; an answer that did not fit is
                shown to the model, with what was wrong with it.
        """
        told = _told(before)
        try:
            return await self._ask(inputs, told)
        except AttemptError as error:
            if not isinstance(error, InvalidOutputError):
                error.rejected = told  # to be told again once the endpoint answers
            raise

    async def ask_again(self, inputs: Mapping[str, Any], before: BaseException | None) -> Answer:
        """`ask`, also where a subclass's own takes the inputs alone."""
        if before is None or type(self).ask is not Predict.ask:
            return await self.ask(inputs)
        return await self.ask(inputs, before)

    async def _ask(self, inputs: Mapping[str, Any], told: InvalidOutputError | None) -> Answer:
        messages = self._messages(inputs, told)
        with UsageScope() as calls:
            completion = await self.lm.complete(messages, **self._form, **self._asked)
            if not calls:  # an LM of the user's own, which does not tell of its calls
                record(completion.usage)
        answer = self.answer_of(completion)
        if self.history is not None:
            self.history.add(self.words(inputs), completion.text or "")
        return answer if told is None else answer._replace(repaired="asked again")

    def answer_of(self, completion: Completion) -> Answer:
        """A completion as the row's answer. InvalidOutputError if it does not fit."""
        if completion.refusal:
            raise RefusedOutputError(
                f"the model declined: {completion.refusal[:200]}", usage=completion.usage
            )
        outputs, repaired, start = self._parser.parse(
            completion.text, completion.finish_reason, completion.usage
        )
        text = completion.text or ""
        if self._sureness:
            fields, tokens = self.signature.outputs, completion.logprobs
            sure = {} if start is None or not tokens else distributions(text, start, tokens, fields)
            outputs |= as_columns(sure, outputs, fields)
            text = json.dumps([text, sure])
        return Answer(
            outputs,
            completion.usage,
            completion.model,
            completion.finish_reason,
            text,
            repaired=repaired,
        )

    @property
    def _form(self) -> dict[str, Any]:
        """The form in which the answer is asked for."""
        return {"schema": self._parser.schema, "strict": self._parser.strict}

    @property
    def _asked(self) -> dict[str, Any]:
        """The parameters of each request."""
        return {**_LOGPROBS, **self.params} if self._sureness else self.params

    def request(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What `ask` would send for these inputs; nothing is sent."""
        messages = self._messages(inputs)
        whole = getattr(self.lm, "request", None)
        if whole is None:  # a custom LM
            return {"messages": messages, **self._form, **self._asked}
        body: dict[str, Any] = whole(messages, **self._form, **self._asked)
        return body

    def worst_case(self, inputs: Mapping[str, Any], before: BaseException | None = None) -> Bound:
        """The most that one `ask` with the same arguments can use. ValueError where that is not
        known: an unknown price, or a custom LM without `worst_case`."""
        known = getattr(self.lm, "worst_case", None)
        if known is None:
            raise ValueError(f"{self.lm!r} cannot tell what a call can cost (it has no worst_case)")
        messages = self._messages(inputs, _told(before))
        bound: Bound = known(messages, **self._form, **self._asked)
        return bound

    def _messages(
        self, inputs: Mapping[str, Any], told: InvalidOutputError | None = None
    ) -> list[dict[str, Any]]:
        user = {"role": "user", "content": self._content(inputs, told)}
        past = self.history.messages if self.history is not None else []
        return [self._system, *self._examples, *past, user]

    @property
    def can_be_remembered(self) -> bool:
        """Whether the prompt alone decides the answer: a model that can say which it is
        (`identity`, as `LM` does), parameters that JSON can write, no history, and no subclass
        that asks or reads in a way of its own."""
        own = ("acall", "ask", "_ask", "read", "words", "_messages", "_content")
        if any(getattr(type(self), name) is not getattr(Predict, name) for name in own):
            return False
        if self.history is not None or getattr(self.lm, "identity", None) is None:
            return False
        try:
            json.dumps(self.fixed)
        except TypeError:
            return False
        return True

    @property
    def fixed(self) -> list[Any]:
        """What decides the answers beside a row's inputs: model, endpoint, parameters, schema,
        and the messages that are the same for every row (instructions, demos)."""
        model = getattr(self.lm, "identity", None)
        form = [
            self._parser.schema,
            self._parser.strict,
            *(["confidence"] if self._sureness else []),
        ]
        return [model, self.params, form, self._system, self._examples]

    @property
    def prompt_sha256(self) -> str:
        """The hash of all in a prompt that is the same for every row, schema included."""
        return hashlib.sha256(json.dumps(self.fixed[2:], sort_keys=True).encode()).hexdigest()

    def read(self, text: str, finish_reason: str | None) -> tuple[dict[str, Any], str | None]:
        """The outputs in an `Answer`'s text, and what had to be done to read them.
        InvalidOutputError if it does not fit."""
        sure: dict[str, Any] = {}
        if self._sureness:
            text, sure = json.loads(text)
        outputs, repaired, _ = self._parser.parse(text, finish_reason, None)
        if self._sureness:
            outputs |= as_columns(sure, outputs, self.signature.outputs)
        return outputs, repaired

    async def acall(self, **inputs: Any) -> Prediction:
        """Ask for one row; an answer that does not fit is sent back twice at most.

        Raises:
            ValueError: inputs are missing, unknown or of a wrong type; nothing was sent.
            AttemptError: the endpoint failed, or the answer does not fit the signature.
            TimeoutError: no answer within `timeout_s`.
        """
        self._check(inputs)
        with UsageScope() as calls:
            async with asyncio.timeout(self.timeout_s):
                answer = await self._ask_until_it_fits(inputs)
        usage = total(calls) if len(calls) > 1 else answer.usage
        return Prediction(
            answer.outputs, inputs=inputs, usage=usage, module_name=type(self).__name__
        )

    async def _ask_until_it_fits(self, inputs: Mapping[str, Any]) -> Answer:
        before: InvalidOutputError | None = None
        for _ in range(_SENT_BACK):
            try:
                return await self.ask_again(inputs, before)
            except InvalidOutputError as error:
                if not error.retryable:
                    raise
                before = error
        return await self.ask_again(inputs, before)

    def __call__(self, **inputs: Any) -> Prediction:
        """`acall`, from synchronous code; works inside a running event loop too."""
        return run_sync(self.acall(**inputs))

    def _check(self, inputs: Mapping[str, Any]) -> None:
        fields = self.signature.inputs
        missing = [n for n, f in fields.items() if n not in inputs and not f.optional]
        unknown = [n for n in inputs if n not in fields]
        if missing or unknown:
            raise ValueError(
                f"missing inputs {missing}, unknown inputs {unknown}; the signature takes "
                f"{list(fields)}"
            )
        for name, value in inputs.items():
            fields[name].adapter.validate_python(value)  # pydantic's ValidationError: ValueError

    def _content(self, inputs: Mapping[str, Any], told: InvalidOutputError | None) -> Any:
        """The user's message: the inputs, images beside the text, what was wrong before."""
        if not self._images:
            words = self.words(inputs)
            return words if told is None else f"{words}\n\n{_sent_back(told, self.signature)}"
        images = {n: inputs[n] for n in self._images if inputs.get(n) is not None}
        numbered = {n: f"(image {i})" for i, n in enumerate(images, 1)}
        lines = [self.words({n: v for n, v in inputs.items() if n not in images})]
        lines += [f"{name}: {number}" for name, number in numbered.items()]
        lines += [] if told is None else ["", _sent_back(told, self.signature)]
        text = {"type": "text", "text": "\n".join(filter(None, lines))}
        return [text, *(Image.of(value).part for value in images.values())]

    def words(self, inputs: Mapping[str, Any]) -> str:
        """A row's own part of the prompt; images by what tells them from others."""
        lines = []
        for name, field in self.signature.inputs.items():
            value = inputs.get(name)
            if value is not None:
                shown = Image.of(value).digest if name in self._images else field.render(value)
                lines.append(f"{name}: {shown}")
        return "\n".join(lines)

    def _example(self, index: int, demo: Mapping[str, Any]) -> list[dict[str, str]]:
        fields = {**self.signature.inputs, **self.signature.outputs}
        missing = [n for n, f in fields.items() if n not in demo and not f.optional]
        if missing:
            raise ValueError(f"demo {index} lacks {', '.join(missing)}")
        answer = {
            name: field.adapter.dump_python(field.adapter.validate_python(demo[name]), mode="json")
            for name, field in self.signature.outputs.items()
            if name in demo
        }
        return [
            {"role": "user", "content": self.words(demo)},
            {"role": "assistant", "content": json.dumps(answer, ensure_ascii=False)},
        ]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.signature!r}, {self.lm!r})"


class ChainOfThought(Predict):
    """`Predict` that reasons first, into an extra output `reasoning`."""

    def _prepare(self, signature: Signature) -> Signature:
        return signature.with_output_first(Field("reasoning", str, "Think step by step"))


def _told(before: BaseException | None) -> InvalidOutputError | None:
    """The answer that is sent back: the last attempt's, or that of one before it."""
    if isinstance(before, InvalidOutputError):
        return before
    rejected: InvalidOutputError | None = getattr(before, "rejected", None)
    return rejected


def _sent_back(error: InvalidOutputError, signature: Signature) -> str:
    """What was wrong with an earlier answer, in the same message as the inputs: some models take
    no two messages of one role in a row."""
    said = (error.text or "")[:_SHOWN_BACK]
    lines = [
        "An earlier answer to this could not be used.",
        f"It was: {said}" if said else "",
        f"What was wrong: {error}",
        "Answer again with one JSON object with the keys "
        + ", ".join(signature.outputs)
        + ", and nothing else.",
    ]
    if isinstance(error, TruncatedOutputError):
        lines.append("Be much shorter.")
    return "\n".join(filter(None, lines))


def _system_text(signature: Signature) -> str:
    """Instructions and fields; the same for every row, so providers can cache it."""

    def lines(fields: Mapping[str, Field]) -> list[str]:
        return [
            f"- {f.name} ({f.type_name}{', optional' if f.optional else ''})"
            + (f": {f.description}" if f.description else "")
            for f in fields.values()
        ]

    parts = [signature.instructions, "", "Inputs:", *lines(signature.inputs), ""]
    parts += ["Outputs:", *lines(signature.outputs), ""]
    parts += ["Answer with one JSON object with the keys " + ", ".join(signature.outputs) + "."]
    return "\n".join(parts)
