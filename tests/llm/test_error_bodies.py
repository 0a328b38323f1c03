"""An error is what its body says, in the words that providers really use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.core import errors
from pardspy_nb.engine.policies import FailurePolicy
from pardspy_nb.llm.error_bodies import error_in, error_of

QUIET: Any = {"store": None, "progress": "none"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (402, {"error": {"message": "Insufficient Balance"}}, errors.QuotaError),
        (429, {"error": {"code": "insufficient_quota", "message": "…"}}, errors.QuotaError),
        (429, {"error": {"type": "exceeded_current_quota_error"}}, errors.QuotaError),
        (429, {"error": {"code": "billing_not_active", "message": "…"}}, errors.QuotaError),
        (
            422,
            {"error": {"message": "Budget has been exceeded! Cost: 1"}},
            errors.QuotaError,
        ),
        (
            400,
            {"error": {"message": "Your credit balance is too low"}},
            errors.QuotaError,
        ),
        (429, {"error": {"message": "Rate limit reached"}}, errors.RateLimitError),
        (401, {"error": {"message": "no"}}, errors.AuthenticationError),
        (400, {"error": {"message": "API key not valid. Please pass"}}, errors.AuthenticationError),
        (400, {"error": {"message": "Incorrect API key provided"}}, errors.AuthenticationError),
        (403, {"detail": "Forbidden"}, errors.AuthenticationError),
        (404, {"error": {"message": "The model `x` does not exist"}}, errors.ModelNotFoundError),
        (
            400,
            {"error": {"message": "Invalid model name passed in"}},
            errors.ModelNotFoundError,
        ),
        (500, {"error": "Server is pinned to 'a'"}, errors.ModelNotFoundError),
        (400, {"error": {"code": "content_filter", "message": "…"}}, errors.RefusedOutputError),
        (
            403,
            {"error": {"message": "Input flagged", "metadata": {"reasons": ["violence"]}}},
            errors.RefusedOutputError,
        ),
        (400, {"error": {"code": "context_length_exceeded"}}, errors.ContextLengthError),
        (400, {"message": "prompt is too long: 9 tokens"}, errors.ContextLengthError),
        (498, {}, errors.ServerError),
        (424, {}, errors.ServerError),
        (529, {"error": {"type": "overloaded_error"}}, errors.ServerError),
        (400, {"error": {"code": "json_validate_failed"}}, errors.ServerError),
        (407, {}, errors.UnsendableError),
        (400, [{"error": {"message": "bad field"}}], errors.BadRequestError),
        (413, {"error": {"message": "too large"}}, errors.BadRequestError),
    ],
)
def test_the_words_decide(status: int, body: Any, kind: type[Exception]) -> None:
    error = error_of(status, json.dumps(body).encode(), "http://127.0.0.1:9/v1")
    assert type(error) is kind
    assert str(error).startswith(f"HTTP {status}: ")


def test_odd_bodies_are_shown_short() -> None:
    page = b"<html><head><title>\n502 Bad Gateway </title></head><body>" + b"x" * 9999
    assert "a web page, '502 Bad Gateway'" in str(error_of(502, page, "u"))
    assert type(error_of(500, b'{"error":' * 5000, "u")) is errors.ServerError
    assert len(str(error_of(400, json.dumps({"error": "x" * 9999}).encode(), "u"))) < 700


def test_a_403_is_the_rows_if_others_get_through(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=403) if marker == 5 else Reply()
    rows = [f"row-{i}" for i in range(12)]
    df = pn.run_parallel(predict, rows, max_failures=None, max_workers=2, **QUIET)
    assert (df["status"] == "ok").sum() == 11
    server.script = lambda marker, attempt: Reply("status", code=403)
    with pytest.raises(pn.RunStopped, match="AuthenticationError"):
        pn.run_parallel(predict, rows, max_failures=None, max_workers=2, **QUIET)
    flagged = {"message": "Input was flagged by moderation"}
    server.script = lambda marker, attempt: Reply("status", code=403, body=flagged)
    df = pn.run_parallel(predict, rows, max_failures=None, **QUIET)
    assert set(df["error_type"]) == {"RefusedOutputError"}


def test_the_first_rows_decide_whether_a_403_is_the_runs() -> None:
    policy, error = FailurePolicy(None), error_of(403, b"{}", "u")
    assert policy.ending(error, 2, 2, 10) is None
    assert policy.ending(error, 3, 3, 10) == ("fatal", False)
    assert policy.ending(error, 9, 10, 20) is None, "one row got through"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"message": "Insufficient balance", "code": 402}}, "QuotaError: HTTP 402"),
        ({"error": {"message": "quota", "type": "insufficient_quota"}}, "QuotaError: HTTP 400"),
        ({"error": {"message": "Incorrect API key provided"}}, "AuthenticationError: HTTP 400"),
        ({"error": "Unexpected endpoint or method. Returning 200 anyway"}, "ModelNotFoundError"),
        ({"detail": "Not Found"}, "ModelNotFoundError"),
        ({"success": False, "errors": [{"code": 1, "message": "no such model"}]}, "ModelNotFound"),
    ],
)
def test_an_error_in_a_200_is_that_error(
    predict: pn.Predict, server: ScriptedServer, body: dict[str, Any], error: str
) -> None:
    server.script = lambda marker, attempt: Reply("raw", text=json.dumps(body))
    with pytest.raises(pn.RunStopped, match=error):
        pn.run_parallel(predict, ["row-1"], **QUIET)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"code": "rate_limit_exceeded", "message": "slow down"}}, 429),
        ({"error": {"code": "429", "message": "slow down"}}, 429),
        ({"status": "error", "message": "The model is overloaded"}, 503),
        ({"errors": [{"code": 7009, "message": "Upstream service unavailable"}]}, 503),
        ({"error": {"message": "oops"}}, 500),
        ({"choices": [{}], "error": {"message": "late"}}, None),
        ({"id": "x"}, None),
    ],
)
def test_what_an_error_in_a_200_would_have_as_its_status(
    body: dict[str, Any], status: int | None
) -> None:
    assert error_in(body) == status


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (400, "Unsupported value: 'temperature' does not support 0.16 with this model."),
        (400, "Unrecognized request argument supplied: foo"),
        (422, "Extra inputs are not permitted: foo"),
    ],
)
def test_a_parameter_that_no_row_may_have_stops_the_run(
    predict: pn.Predict, server: ScriptedServer, code: int, message: str
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=code, message=message)
    rows = [f"row-{i}" for i in range(50)]
    with pytest.raises(pn.RunStopped, match=r"what LM\(…\) sends can be changed"):
        pn.run_parallel(predict, rows, max_workers=2, max_failures=None, **QUIET)
    assert len(server.requests) < 15


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (500, "literal_error: Input should be 'text' for response_format.type"),
        (500, "failed to parse grammar"),
        (400, 'Invalid JSON payload. Unknown name "$defs" at generation_config.response_schema'),
        (400, "The schema has too many states for serving"),
        (404, "No endpoints found that support response_format"),
    ],
)
def test_a_form_that_is_refused_in_any_voice_is_left(
    predict: pn.Predict, server: ScriptedServer, code: int, message: str
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        asked = server.requests[-1].get("response_format", {}).get("type")
        return Reply("status", code=code, message=message) if asked == "json_schema" else Reply()

    server.script = script
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(4)], max_workers=1, **QUIET)
    assert (df["status"] == "ok").all()
    forms = [r.get("response_format", {}).get("type") for r in server.requests]
    assert forms == ["json_schema", *["json_object"] * 4]


def test_a_row_of_groqs_that_did_not_fit_does_not_lower_the_form(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    odd = {"code": "json_validate_failed", "message": "Generated JSON does not match the schema"}
    server.script = lambda marker, attempt: (
        Reply("status", code=400, body=odd) if (marker, attempt) == (2, 1) else Reply()
    )
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(4)], max_workers=1, **QUIET)
    assert (df["status"] == "ok").all()
    assert {r["response_format"]["type"] for r in server.requests} == {"json_schema"}


def test_what_is_sent_back_has_the_schema_in_words_and_an_error_the_first_fault(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    server.script = lambda marker, attempt: (
        Reply("garbage") if attempt == 1 else Reply("status", code=400, message="odd")
    )
    df = pn.run_parallel(predict, ["row-1"], max_failures=None, **QUIET)
    assert '"enum": ["positive"' in server.requests[1]["messages"][-1]["content"]
    assert "HTTP 400: odd" in df["error"][0]
    assert "before, the answer did not fit" in df["error"][0]


@pytest.mark.parametrize(
    ("message", "is_refused", "is_right"),
    [
        (
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            lambda body: "max_tokens" in body,
            lambda body: body["max_completion_tokens"] == 50,
        ),
        (
            "System role not supported",
            lambda body: body["messages"][0]["role"] == "system",
            lambda body: body["messages"][0]["content"].startswith("Analyze customer"),
        ),
        (
            "Developer instruction is not enabled for models/gemma-3",
            lambda body: body["messages"][0]["role"] == "system",
            lambda body: [m["role"] for m in body["messages"]] == ["user"],
        ),
    ],
)
def test_a_request_is_written_as_the_endpoint_takes_it(
    predict: pn.Predict, server: ScriptedServer, message: str, is_refused: Any, is_right: Any
) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message=message) if is_refused(server.requests[-1]) else Reply()
    )
    limited = predict.varied(max_tokens=50)
    rows = [f"row-{i}" for i in range(4)]
    df = pn.run_parallel(limited, rows, max_workers=1, **QUIET)
    assert (df["status"] == "ok").all()
    assert len(server.requests) == 5, "refused once, not once a row"
    assert all(map(is_right, server.requests[1:]))
