"""The exceptions that the package raises on purpose. The message of each is one sentence for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ImageError(ValueError):
    """An image cannot be used: unreadable, too large, or not allowed."""


class DownloadError(ValueError):
    """A file cannot be fetched: a private address, a failed or an oversized reply."""


class DataError(ValueError):
    """Data or a recipe cannot be used as it is."""


class AnnotationStopped(Exception):
    """No more calls to a teacher are made; the message says why."""


class TeacherDeclined(Exception):
    """A teacher cannot answer such a turn, however often it is asked; the message says why."""


class StoreError(ValueError):
    """A folder's store cannot be opened or written."""


class ModelError(ValueError):
    """A model cannot do what was requested."""


class ModelFailure(ModelError):
    """A model failed at a valid request: out of memory, or its server gave up."""


class ModelRefusal(ModelError):
    """A model, or a filter of its server, declines to answer this prompt; it may answer others."""


class ServerRefusal(ModelError):
    """A server refuses a request, and would refuse it again.

    Attributes:
        status: The HTTP status of its reply.
        field: The field of the request that the reply names as the reason, if it names one.
    """

    def __init__(self, message: str, status: int = 0, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class ModelUnavailable(ServerRefusal):
    """A server refuses all requests: its quota is used up, the key is wrong, the model is gone."""


class ServerFailure(ModelFailure):
    """A server failed at all attempts. It asks clients to wait `after` seconds (0: it does not say)."""

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


@contextmanager
def needs_extra(what: str, extra: str, kind: type[Exception] = DataError) -> Iterator[None]:
    """For the import of optional packages inside. Raises `kind`, with the command that installs them."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise kind(missing_package(what, error.name, extra=extra)) from None


def missing_package(what: str, package: str | None, *, extra: str) -> str:
    """Write the message for a package that is not installed, with the command that installs it.

    Args:
        what: What needs the package, as the subject of the sentence: "the server".
        package: The package's name.
        extra: The optional dependencies of this package that include it.
    """
    install = f"pip install -c constraints.txt -e '.[{extra}]'"
    return f"{what} needs {package}, which is not installed; in the clone, run: {install}"


class RequestError(ValueError):
    """The choices for a question cannot work.

    Attributes:
        field: The field of the request that is at fault, such as "judge".
        needs: The resource that is missing, if one is.
    """

    def __init__(self, field: str, message: str, *, needs: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.needs = needs
