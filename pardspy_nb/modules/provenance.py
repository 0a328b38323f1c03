"""The origin of answers, as `df.attrs["pardspy"]` and the store keep it, fit for JSON."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from typing import Any

from ..core.options import Options
from ..core.redaction import public_params
from ..llm.prices import table_version
from .module import Module
from .predict import Predict

_PACKAGES = ("pardspy_nb", "openai", "pandas", "pydantic")


class Sources:
    """The sources of a run's answers: modules with their models, prompts and versions.

    Attributes:
        known: a description of each source by its id; the sources of cached answers are added
            when these answers are used.
    """

    def __init__(self, module: Module, cache_key: str | None) -> None:
        each = {id(one): _about(module, one, cache_key) for one in module.each}
        ids = {one: _id_of(about) for one, about in each.items()}
        self._ids = [ids[id(one)] for one in module.each]
        self._place = module.place
        self.known: dict[str, dict[str, Any]] = {ids[one]: about for one, about in each.items()}

    def of(self, number: int, stage: int = 0) -> str:
        """The id of the source that answers the row of this number in this run, in this stage."""
        return self._ids[self._place(number, stage)]


def _about(module: Module, predict: Any, cache_key: str | None) -> dict[str, Any]:
    """Signature, prompt hash, model, endpoint, parameters, prices, package versions."""
    lm = getattr(predict, "lm", None)
    identity = getattr(lm, "cache_identity", None) or {}
    rate = getattr(lm, "rate", None)
    own_price = getattr(lm, "price", None) is not None
    return {
        "module": module.name,
        "signature": signature(module, predict),
        "prompt_sha256": predict.prompt_sha256 if isinstance(predict, Predict) else None,
        "model": None if lm is None else str(getattr(lm, "model", lm)),
        "weights": _jsonable(identity).get("weights"),  # of an embedded model
        "endpoint": identity.get("url"),
        "params": _jsonable(
            public_params({**identity.get("params", {}), **getattr(predict, "params", {})})
        ),
        "prices": {
            "table": None if own_price or rate is None else table_version(),
            "usd_per_1m_prompt": None if rate is None else round(rate.prompt * 1e6, 9),
            "usd_per_1m_completion": None if rate is None else round(rate.completion * 1e6, 9),
        },
        "cache_key": cache_key,
        "packages": packages(),
    }


def _id_of(about: Mapping[str, Any]) -> str:
    """Equal sources have equal ids."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


def signature(module: Module, predict: Any) -> dict[str, Any]:
    """A module's instructions and fields."""
    declared = getattr(predict, "signature", None)
    aliases = {n: dict(f.aliases) for n, f in module.outputs.items() if f.aliases}
    labels = {n: list(f.labels) for n, f in module.outputs.items() if f.labels is not None}
    schemas = {n: schema for n, f in module.outputs.items() if (schema := f.nested_schema)}
    return {
        "instructions": getattr(declared, "instructions", None),
        "inputs": {n: f.type_name for n, f in module.inputs.fields.items()},
        "outputs": {n: f.type_name for n, f in module.outputs.items()},
        "labels": labels,
        **({"aliases": aliases} if aliases else {}),
        **({"schemas": schemas} if schemas else {}),
    }


@functools.cache
def packages() -> dict[str, str]:
    """The versions of the packages that influence an answer or a frame."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return found | {"python": ".".join(map(str, sys.version_info[:3]))}


def provenance(module: Module, options: Options, *, workers: int, **more: Any) -> dict[str, Any]:
    """A frame's record of its run; `workers` is the number that `max_workers` resolved to."""
    return {
        "module": module.name,
        "signature": signature(module, module.source),
        "model": _models(module),
        "options": options.to_dict() | {"max_workers": workers},
        "versions": packages(),
        **({"form": form} if (form := _lower_form(module)) else {}),
        **({} if module.router is None else {"cascade": module.router.report()}),
    } | more


def _models(module: Module) -> str | None:
    """The first model's name; of a cascade, the names in their order."""
    names = [str(getattr(lm, "model", lm)) for lm in module.lms]
    return " -> ".join(names) if module.router else next(iter(names), None)


def _lower_form(module: Module) -> str | None:
    """How answers were asked for of endpoints that do not keep to a JSON schema, None if all do."""
    known = [getattr(lm, "capabilities", {}) for lm in module.lms]
    told = {
        "json_schema, in words too" if of["form"] == "json_schema" else of["form"]
        for of in known
        if of.get("is_known") and (of["form"] != "json_schema" or of["ignores_schemas"])
    }
    return ", ".join(sorted(told)) or None


def _jsonable(params: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(params, default=repr))  # type: ignore[no-any-return]
