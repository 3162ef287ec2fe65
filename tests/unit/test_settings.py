"""Settings: precedence, strictness and what `--help` shows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from xscene.errors import SettingsInvalid
from xscene.serving.settings import ServerSettings, load, rows, setting


@dataclass(frozen=True, kw_only=True)
class Settings(ServerSettings):
    """A service of this test."""

    names: tuple[str, ...] = setting(("a",), "Names.")
    share: float = setting(0.5, "A share.", low=0, high=1)
    folder: Path = setting(Path("x"), "A folder.")


def read(*argv: str, **environ: str) -> Settings:
    return load(Settings, "fusion", argv, environ)


def test_a_flag_beats_its_variable_and_a_variable_beats_the_default() -> None:
    assert read().port == 0
    assert read(XSCENE_FUSION_PORT="7").port == 7
    assert read("--port", "8", XSCENE_FUSION_PORT="7").port == 8


def test_every_type_is_read() -> None:
    got = read(
        "--names", "b, c,", "--share", "0.25", "--folder", "/y", "--reflection", "no", "--tokens", "t.json"
    )
    assert (got.names, got.share, got.folder, got.reflection, got.tokens) == (
        ("b", "c"),
        0.25,
        Path("/y"),
        False,
        Path("t.json"),
    )


def test_an_empty_variable_unsets_an_optional_setting() -> None:
    assert read(XSCENE_FUSION_TOKENS="").tokens is None


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"XSCENE_FUSION_PROT": "1"}, "did you mean XSCENE_FUSION_PORT"),
        ({"XSCENE_FUSON_PORT": "1"}, "XSCENE_FUSON_PORT is not a setting"),
        ({"XSCENE_PORT": "1"}, "XSCENE_PORT is not a setting"),
        ({"XSCENE_FUSION_PORT": "many"}, "port: 'many' is not a int"),
        ({"XSCENE_FUSION_PORT": "70000"}, "port: 70000 is above 65535"),
        ({"XSCENE_FUSION_SHARE": "nan"}, "share: nan is below 0"),
        ({"XSCENE_FUSION_SHARE": "1.5"}, "share: 1.5 is above 1"),
        ({"XSCENE_FUSION_REFLECTION": "perhaps"}, "reflection: 'perhaps' is none of"),
        ({"XSCENE_FUSION_LOG_LEVEL": "LOUD"}, "log_level: 'LOUD' is none of"),
        ({"XSCENE_FUSION_PORT": "65000"}, "metrics_port: port 65000"),
        ({"XSCENE_FUSION_MAX_CONNECTION_AGE_S": "inf"}, "max_connection_age_s: inf is above"),
        ({"XSCENE_FUSION_MAX_MESSAGE_BYTES": "9999999999"}, "max_message_bytes: 9999999999 is above"),
        ({"XSCENE_FUSION_TLS_CERT": "a.crt"}, "tls_cert and tls_key go together"),
        ({"XSCENE_FUSION_TLS_CLIENT_CA": "a.crt"}, "tls_client_ca needs"),
    ],
)
def test_what_is_unknown_or_wrong_stops_the_service(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words):
        read(**environ)


def test_variables_of_other_services_are_theirs() -> None:
    assert read(XSCENE_TEXT_ANYTHING="1", XSCENE_GATEWAY_PORT="1", XSCENE_CLIENT_TOKEN="t") == Settings()


@pytest.mark.parametrize("flag", ["--prot", "--por"])
def test_an_unknown_or_cut_flag_is_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read(flag, "1")
    assert caught.value.code == 2
    assert flag in capsys.readouterr().err


def test_help_names_every_setting_with_flag_variable_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read("--help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    table = rows(Settings, "fusion")
    assert len(table) == len(fields(Settings)) > 20
    for row in table:
        assert row.flag in text
        assert f"[{row.variable}; default: {row.default}]" in text


def test_the_metrics_page_stands_a_thousand_above_the_port() -> None:
    assert Settings(port=50054).effective_metrics_port == 51054
    assert Settings(port=50054, metrics_port=0).effective_metrics_port is None
    assert Settings(port=0).effective_metrics_port is None
    assert Settings(port=0, metrics_port=9).effective_metrics_port == 9
