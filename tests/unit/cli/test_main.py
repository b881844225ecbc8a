"""The command line's grammar, and `kanarya crd`."""

from __future__ import annotations

import json
from importlib.metadata import entry_points, version

import pytest

from kanarya.api.crd import custom_resource_definition
from kanarya.cli import crd
from kanarya.cli.main import main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for command in ("operator", "status", "evidence", "judge", "plan", "simulate", "crd"):
        assert f"    {command} " in text


@pytest.mark.parametrize(
    "command",
    [["operator"], ["status"], ["evidence"], ["evidence", "get"], ["evidence", "verify"], ["judge"], ["plan"], ["simulate"], ["crd"]],
)
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: kanarya {' '.join(command)}")


@pytest.mark.parametrize("command", [[], ["nothing"], ["evidence"], ["status"], ["operator"]])
def test_a_command_that_is_not_whole_is_a_usage_error(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 2
    assert "usage: kanarya" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"kanarya {version('kanarya')}\n"


def test_crd_prints_the_definition(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crd"]) == 0
    assert json.loads(capsys.readouterr().out) == custom_resource_definition()


def test_kubectl_finds_it_as_a_plugin() -> None:
    scripts = {script.name: script.value for script in entry_points(group="console_scripts") if script.value.startswith("kanarya.")}
    assert scripts == dict.fromkeys(("kanarya", "kubectl-kanarya"), "kanarya.cli.main:main")


def test_an_interrupt_ends_it_as_shells_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(crd, "run", interrupt)
    assert main(["crd"]) == 130
