"""The error tree and its way over the wire."""

from __future__ import annotations

import grpc
import pytest

from xscene import errors
from xscene.codec import status

TREE = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.XSceneError)]


@pytest.mark.parametrize("cls", TREE)
def test_every_class_has_a_status_of_grpc_and_comes_back_as_itself(cls: type[errors.XSceneError]) -> None:
    assert cls.status in grpc.StatusCode.__members__
    sent = cls("why", violations=(errors.FieldViolation("a.b", "too long"),), retry_after_s=1.5)
    message, details = status.encode(sent, "t")
    got = status.decode(cls.status, message, details)
    assert type(got) is cls
    assert (got.message, got.violations, got.retry_after_s) == ("why", sent.violations, 1.5)


@pytest.mark.parametrize("cls", TREE)
def test_every_class_is_drawn_with_its_status_in_the_tree(cls: type[errors.XSceneError]) -> None:
    lines = [line.strip(" |-'").split() for line in (errors.__doc__ or "").splitlines()]
    assert any(line[:2] == [cls.__name__, cls.status] for line in lines)


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        ("UNAVAILABLE", errors.NotReady),
        ("FAILED_PRECONDITION", errors.PreconditionFailed),
        ("INVALID_ARGUMENT", errors.InvalidInput),
        ("DATA_LOSS", errors.XSceneError),
    ],
)
def test_an_error_of_another_product_is_known_by_its_status(code: str, cls: type) -> None:
    assert type(status.decode(code, "", None)) is cls
    assert type(status.decode(code, "", b"not a status \xff")) is cls


def test_an_endless_message_still_fits_into_the_trailers() -> None:
    many = tuple(errors.FieldViolation("f" * 5000, "d" * 5000) for _ in range(100))
    message, details = status.encode(errors.InvalidInput("ü" * 100_000, violations=many), "t")
    # gRPC writes the details in base64, and each byte of such a message as three.
    assert 3 * len(message.encode()) + 4 * len(details) / 3 < 7500
    assert status.decode("INVALID_ARGUMENT", message, details).violations


def test_a_limit_names_field_value_limit_and_unit() -> None:
    error = errors.LimitExceeded.of("texts[2]", value=5000, limit=4096, unit="bytes")
    assert error.message == "texts[2]: 5000 bytes, the limit is 4096"
    assert error.violations == (errors.FieldViolation("texts[2]", "5000 bytes, the limit is 4096"),)
