"""What a build gets from the machine."""

from pathlib import Path

import pytest

from tests.cluster import machine

LISTED = """:env:.timeout='180'
global.cert='/etc/ours.crt'
global.index-url='https://packages.example/simple'
install.trusted-host='packages.example\\nother.example'
wheel.no-deps='true'
"""


@pytest.fixture(autouse=True)
def no_own_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "OWN_CERTIFICATES", tmp_path / "none")


def test_a_plain_machine_gives_nothing() -> None:
    assert machine.files_for_build({}, {"PATH": "/bin"}) == {}


def test_pip_settings_are_read_and_the_environment_wins() -> None:
    found = machine.parse_pip_settings(LISTED, {"PIP_INDEX_URL": "https://mirror.example/simple", "PIP_DEFAULT_TIMEOUT": "60"})
    assert found == {
        "cert": "/etc/ours.crt",
        "index-url": "https://mirror.example/simple",
        "trusted-host": "packages.example other.example",
        "timeout": "60",
    }


def test_certificates_and_index_reach_pip_and_uv(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(b"certificates")
    files = machine.files_for_build({"index-url": "https://packages.example/simple"}, {"SSL_CERT_FILE": str(bundle)})
    assert files["ca.crt"] == b"certificates"
    assert files["pip.conf"] == b"[global]\nindex-url = https://packages.example/simple\n\n"
    assert files["env"].decode().splitlines() == [
        "export PIP_CERT=/machine/ca.crt",
        "export PIP_CONFIG_FILE=/machine/pip.conf",
        "export REQUESTS_CA_BUNDLE=/machine/ca.crt",
        "export SSL_CERT_FILE=/machine/ca.crt",
        "export UV_DEFAULT_INDEX=https://packages.example/simple",
    ]


def test_values_are_quoted_for_the_shell() -> None:
    assert machine.render_env({"NO_PROXY": "a b;c"}) == b"export NO_PROXY='a b;c'\n"


def test_the_folder_is_empty_again_after_a_failed_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "pip_settings", lambda: {"timeout": "9"})

    def failing_build() -> None:
        with machine.prepared(tmp_path):
            assert (tmp_path / "env").exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_build()
    assert list(tmp_path.iterdir()) == []
