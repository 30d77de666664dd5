"""The console script: options that become environment, names with hyphens, how a start fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from ollamasite.cli import read_command_line


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "ollamasite", *arguments],
        env=inherited | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("options", [["--data-dir", "/srv/site"], ["--data-dir=/srv/site"]])
def test_data_dir_is_taken_from_any_command(options: list[str]) -> None:
    environ: dict[str, str] = {}

    rest = read_command_line(["manage.py", "migrate", *options, "--plan"], environ)

    assert environ == {"OLLAMASITE_DATA_DIR": "/srv/site"}
    assert rest == ["ollamasite", "migrate", "--plan"]


def test_relative_data_dir_becomes_absolute_for_the_children() -> None:
    environ = {"OLLAMASITE_DATA_DIR": "data"}

    read_command_line(["ollamasite", "web"], environ)

    assert environ["OLLAMASITE_DATA_DIR"] == str(Path.cwd() / "data")


def test_option_beats_environment() -> None:
    environ = {"OLLAMASITE_DATA_DIR": "/old"}

    read_command_line(["ollamasite", "web", "--data-dir", "/new"], environ)

    assert environ["OLLAMASITE_DATA_DIR"] == "/new"


def test_host_and_port_of_serve_reach_every_child() -> None:
    environ: dict[str, str] = {}

    rest = read_command_line(
        ["ollamasite", "serve", "--host=0.0.0.0", "--port", "8000", "--no-starter-model"], environ
    )

    assert environ == {"OLLAMASITE_HOST": "0.0.0.0", "OLLAMASITE_PORT": "8000"}  # noqa: S104
    assert rest == ["ollamasite", "serve", "--no-starter-model"]


def test_port_of_another_command_is_left_to_it() -> None:
    environ: dict[str, str] = {}

    rest = read_command_line(["ollamasite", "web", "--port", "8000"], environ)

    assert (environ, rest[2:]) == ({}, ["--port", "8000"])


def test_hyphens_in_a_command_are_underscores_to_django() -> None:
    assert read_command_line(["ollamasite", "create-user", "al-ice"], {})[1:] == [
        "create_user",
        "al-ice",
    ]


def test_no_command_prints_the_commands() -> None:
    done = run()

    assert done.returncode == 0
    assert "create-key" in done.stdout


def test_missing_secret_is_one_sentence(tmp_path: Path) -> None:
    done = run("web", "--data-dir", str(tmp_path))

    assert done.returncode == 2
    assert done.stderr.startswith("ollamasite: No OLLAMASITE_SECRET_KEY: run `ollamasite serve`")
    assert done.stderr.count("\n") == 1


def test_bad_setting_is_one_sentence(tmp_path: Path) -> None:
    done = run("serve", "--port", "many", "--data-dir", str(tmp_path))

    assert done.returncode == 2
    assert "OLLAMASITE_PORT='many' cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_unusable_data_dir_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run("serve", "--data-dir", str(tmp_path / "file"))

    assert done.returncode == 2
    assert "cannot be used" in done.stderr
    assert "--data-dir" in done.stderr
    assert done.stderr.count("\n") == 1


def test_only_serve_makes_secrets(tmp_path: Path) -> None:
    run("migrate", "--data-dir", str(tmp_path))

    assert list(tmp_path.iterdir()) == []


def test_no_command_loads_every_page_before_it_begins() -> None:
    ours = {"ollamasite", "models_app", "registry", "inference"}
    commands = {
        name: load_command_class(app, name) for name, app in get_commands().items() if app in ours
    }

    slow = {name for name, command in commands.items() if command.requires_system_checks}

    assert len(commands) > 25
    assert slow <= {"check", "migrate"}  # Django's own: the one is about them, the other is seldom
