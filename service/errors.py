"""Errors that a client sees: an HTTP status and OpenAI's `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from models.audio import AudioError, AudioTooLongError, UnsupportedAudioError
from models.errors import DecoderUnavailableError, UnknownModelError
from ops.errors import DeepThinError
from service.jobs.store import JobStoreError
from service.logs import note


class ServiceError(DeepThinError, RuntimeError):
    """An error with its HTTP status.

    Attributes:
        status: HTTP status of the answer.
        kind: `type` in the answer.
        code: `code` in the answer; for programs.
        param: name of the parameter at fault, or None.
        headers: further headers of the answer.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.headers = dict(headers or {})


class InvalidRequestError(ServiceError):
    """A request that cannot be understood."""

    status = 400
    kind = "invalid_request_error"
    code = "invalid_request"


class UnknownParameterError(InvalidRequestError):
    """A parameter that this version does not know."""

    code = "unknown_parameter"


class InvalidParameterError(InvalidRequestError):
    """A known parameter with a value that cannot be honoured."""

    code = "invalid_parameter"


class MissingFileError(InvalidRequestError):
    """No audio, or no checkpoint, in the request."""

    code = "missing_file"

    def __init__(self, message: str, *, param: str = "file") -> None:
        super().__init__(message, param=param)


class UnauthorisedError(ServiceError):
    """No API key, or a wrong one."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"


class CrossSiteError(ServiceError):
    """A browser sent the request for a page of another site."""

    status = 403
    kind = "invalid_request_error"
    code = "cross_site"


class UnknownHostError(ServiceError):
    """The request was for a name that the service does not go by."""

    status = 421
    kind = "invalid_request_error"
    code = "unknown_host"


class NotFoundError(ServiceError):
    """A model of that name is not hosted."""

    status = 404
    kind = "invalid_request_error"
    code = "model_not_found"


class NotTranscribableError(InvalidRequestError):
    """The model is here for download alone: quarantined, not to be hosted, or without a front end."""

    code = "model_not_transcribable"


class ProtectedModelError(ServiceError):
    """A model that came with DeepThin cannot be deleted or replaced."""

    status = 403
    kind = "invalid_request_error"
    code = "model_protected"


class UnknownJobError(ServiceError):
    """There is no such job."""

    status = 404
    kind = "invalid_request_error"
    code = "job_not_found"


class NoReportError(ServiceError):
    """The job has not come so far as to write a report."""

    status = 404
    kind = "invalid_request_error"
    code = "report_not_found"


class NoTransportError(ServiceError):
    """The model cannot be packed into a transport stream."""

    status = 404
    kind = "invalid_request_error"
    code = "transport_not_found"


class _Conflict:
    """What is asked for does not go with the state of things."""

    status: ClassVar[int] = 409
    kind: ClassVar[str] = "invalid_request_error"


class ModelExistsError(_Conflict, ServiceError):
    """There is a model of that name, or a job will make one."""

    code = "model_exists"


class ModelInUseError(_Conflict, ServiceError):
    """The model is the default, is being unloaded, or is still loading."""

    code = "model_in_use"


class QuarantinedError(_Conflict, ServiceError):
    """The gate did not accept the model."""

    code = "model_quarantined"


class NoPreviousDefaultError(_Conflict, ServiceError):
    """There is no earlier default model to go back to."""

    code = "no_previous_default"


class TooManyModelsError(_Conflict, ServiceError):
    """No more models may be hosted."""

    code = "too_many_models"


class JobFinishedError(_Conflict, ServiceError):
    """The job has ended, or is past the point where it could be cancelled."""

    code = "job_finished"


class BodyTimeoutError(ServiceError):
    """The client took too long to send its body."""

    status = 408
    kind = "invalid_request_error"
    code = "request_timeout"


class TooLargeError(ServiceError):
    """More bytes than allowed."""

    status = 413
    kind = "invalid_request_error"
    code = "request_too_large"


class TooLongError(ServiceError):
    """More seconds of audio than allowed."""

    status = 413
    kind = "invalid_request_error"
    code = "audio_too_long"


class UnsupportedMediaError(ServiceError):
    """Not audio that can be decoded."""

    status = 415
    kind = "invalid_request_error"
    code = "unsupported_audio"


class UnusableAudioError(ServiceError):
    """Audio in a known container that holds nothing to transcribe."""

    status = 422
    kind = "invalid_request_error"
    code = "unusable_audio"


class UnsupportedCheckpointError(ServiceError):
    """Not a kind of checkpoint that can be compressed."""

    status = 415
    kind = "invalid_request_error"
    code = "unsupported_checkpoint"


class ClientGoneError(ServiceError):
    """The client closed the connection before its answer was ready; nobody reads this one."""

    status = 499
    kind = "invalid_request_error"
    code = "client_closed_request"


class OverloadedError(ServiceError):
    """The queue is full, or the service is shutting down."""

    status = 503
    kind = "server_error"
    code = "overloaded"

    def __init__(self, message: str, *, reason: str, retry_after: int) -> None:
        """`reason` is the label of the shed counter."""
        super().__init__(message, headers={"Retry-After": str(retry_after)})
        self.reason = reason


class ModelNotReadyError(ServiceError):
    """The model is hosted but cannot answer now: it is loading, or it failed to load."""

    status = 503
    kind = "server_error"
    code = "model_not_ready"


class JobsUnavailableError(ServiceError):
    """The folder of jobs cannot be used; everything else can."""

    status = 503
    code = "jobs_unavailable"


class NoSpaceError(ServiceError):
    """The disk is too full for an upload."""

    status = 507
    code = "insufficient_storage"


def as_service_error(error: Exception) -> ServiceError:
    """The client's view of `error`; what is not the client's fault becomes a plain 500 that tells no internals."""
    match error:
        case ServiceError():
            return error
        case AudioTooLongError():
            return TooLongError(f"{error}; the service's limit is set by DEEPTHIN_MAX_SECONDS", param="file")
        case UnsupportedAudioError():
            return UnsupportedMediaError(str(error), param="file")
        case AudioError():
            return UnusableAudioError(str(error), param="file")
        case JobStoreError():
            return JobsUnavailableError(str(error))
        case UnknownModelError():
            return NotFoundError(str(error), param="model")
        case DecoderUnavailableError():
            return InvalidParameterError(str(error), param="decoder")
        case _:
            return ServiceError("the server failed to answer; its log says why")


def error_response(error: ServiceError) -> JSONResponse:
    """`error` as a response."""
    return _response(error.status, str(error), error.kind, error.param, error.code, error.headers)


def install(app: FastAPI) -> None:
    """Give every error of `app` the one shape, those of the framework included."""
    app.add_exception_handler(DeepThinError, _on_deepthin_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


async def _on_deepthin_error(_: Request, error: Exception) -> JSONResponse:
    answer = as_service_error(error)
    if answer.status == 500:
        # Not the client's doing: the outermost middleware logs it with its traceback.
        raise error
    return error_response(answer)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message, code = f"there is nothing at {request.url.path}", "not_found"
    elif error.status_code == 405:
        message, code = f"{request.method} is not allowed at {request.url.path}", "method_not_allowed"
    else:
        message, code = str(error.detail), "invalid_request"
    kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
    return _response(error.status_code, message, kind, None, code, error.headers or {})


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    param = str(problem["loc"][-1]) if problem["loc"] else None
    return _response(422, str(problem["msg"]), "invalid_request_error", param, "invalid_parameter", {})


def _response(
    status: int, message: str, kind: str, param: str | None, code: str, headers: Mapping[str, str]
) -> JSONResponse:
    note(error=code)
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status_code=status, headers=dict(headers))
