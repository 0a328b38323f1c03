"""Predict: one row's inputs through a model, back as typed outputs."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from .answers import AnswerParser
from .errors import RefusedOutputError
from .events import Answer
from .fields import Field
from .history import History
from .lm import LM, Bound, LanguageModel
from .portal import run_sync
from .prediction import Prediction
from .signature import Signature, as_signature


class Predict:
    """Ask a model for the outputs of a signature.

    Args:
        signature: a `Signature`, a declared class, or a string such as `"text -> label"`.
        lm: an `LM` or any `LanguageModel`; None for `LM()`.
        demos: worked examples, dicts with every required input and output.
        history: a `History` that this module reads and extends.
        instructions: replaces the signature's.
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
        self._system = {"role": "system", "content": _system_text(signature)}
        self.demos = [dict(demo) for demo in demos]
        self._examples = [m for i, demo in enumerate(self.demos) for m in self._example(i, demo)]

    def _prepare(self, signature: Signature) -> Signature:
        """What a subclass adds to the signature."""
        return signature

    @property
    def timeout_s(self) -> float | None:
        """Wall clock for one call: the LM's own."""
        return getattr(self.lm, "timeout_s", None)

    async def ask(self, inputs: Mapping[str, Any]) -> Answer:
        """One attempt, without a wall clock. Raises an `AttemptError`, which carries usage."""
        messages = self._messages(inputs)
        completion = await self.lm.complete(messages, **self._form, **self.params)
        if completion.refusal:
            raise RefusedOutputError(
                f"the model declined: {completion.refusal[:200]}", usage=completion.usage
            )
        outputs = self._parser.parse(completion.text, completion.finish_reason, completion.usage)
        if self.history is not None:
            self.history.add(messages[-1]["content"], completion.text or "")
        return Answer(outputs, completion.usage, completion.model, completion.finish_reason,
                      completion.text)  # fmt: skip

    @property
    def _form(self) -> dict[str, Any]:
        """The form in which the answer is asked for."""
        return {"schema": self._parser.schema, "strict": self._parser.strict}

    def request(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What `ask` would send for these inputs; nothing is sent."""
        messages = self._messages(inputs)
        whole = getattr(self.lm, "request", None)
        if whole is None:  # a custom LM
            return {"messages": messages, **self._form, **self.params}
        body: dict[str, Any] = whole(messages, **self._form, **self.params)
        return body

    def worst_case(self, inputs: Mapping[str, Any]) -> Bound:
        """The most that one `ask` can use. ValueError where that is not known: an unknown
        price, or a custom LM without `worst_case`."""
        known = getattr(self.lm, "worst_case", None)
        if known is None:
            raise ValueError(f"{self.lm!r} cannot tell what a call can cost (it has no worst_case)")
        bound: Bound = known(self._messages(inputs), **self._form, **self.params)
        return bound

    def _messages(self, inputs: Mapping[str, Any]) -> list[dict[str, str]]:
        user = {"role": "user", "content": self.words(inputs)}
        past = self.history.messages if self.history is not None else []
        return [self._system, *self._examples, *past, user]

    @property
    def can_be_remembered(self) -> bool:
        """Whether the prompt alone decides the answer: a model that can say which it is
        (`identity`, as `LM` does), parameters that JSON can write, no history, and no subclass
        that asks or reads in a way of its own."""
        own = ("acall", "ask", "read", "words", "_messages")
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
        form = [self._parser.schema, self._parser.strict]
        return [model, self.params, form, self._system, self._examples]

    @property
    def prompt_sha256(self) -> str:
        """The hash of all in a prompt that is the same for every row, schema included."""
        return hashlib.sha256(json.dumps(self.fixed[2:], sort_keys=True).encode()).hexdigest()

    def read(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        """The outputs in a model's text. InvalidOutputError if it does not fit."""
        return self._parser.parse(text, finish_reason, None)

    async def acall(self, **inputs: Any) -> Prediction:
        """Ask for one row.

        Raises:
            ValueError: inputs are missing, unknown or of a wrong type; nothing was sent.
            AttemptError: the endpoint failed, or the answer does not fit the signature.
            TimeoutError: no answer within `timeout_s`.
        """
        self._check(inputs)
        async with asyncio.timeout(self.timeout_s):
            answer = await self.ask(inputs)
        return Prediction(
            answer.outputs, inputs=inputs, usage=answer.usage, module_name=type(self).__name__
        )

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

    def words(self, inputs: Mapping[str, Any]) -> str:
        """A row's own part of the prompt."""
        lines = []
        for name, field in self.signature.inputs.items():
            value = inputs.get(name)
            if value is not None:
                lines.append(f"{name}: {field.render(value)}")
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
