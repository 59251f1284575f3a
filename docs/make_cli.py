"""Write docs/cli.md from the program's own help; `--check` only says whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).with_name("cli.md")
COMMANDS = (
    (),
    ("search",),
    ("resume",),
    ("watch",),
    ("leaderboard",),
    ("show",),
    ("report",),
    ("validate",),
    ("export",),
    ("predict",),
    ("score",),
    ("paper",),
    ("paper", "table1"),
    ("paper", "table2"),
    ("paper", "theorem1"),
    ("paper", "theorem2"),
    ("paper", "gp"),
    ("paper", "all"),
    ("paper", "results"),
    ("data",),
    ("data", "inspect"),
    ("doctor",),
    ("benchmark",),
    ("benchmark", "nasbench201"),
    ("studies",),
    ("studies", "list"),
    ("studies", "config"),
    ("studies", "rename"),
    ("studies", "delete"),
    ("db",),
    ("db", "copy"),
    ("clean",),
)


def page() -> str:
    """Return the page: every command's help, at 80 columns."""
    from typer.testing import CliRunner

    from nas_cntk.cli import app

    runner = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERMINAL_WIDTH": "80"})
    parts = [
        "# The command line",
        "Written by `python docs/make_cli.py`; do not edit.",
        "Exit codes: 0 done, 1 an error you can act on (one line on stderr), 2 wrong usage, 130 interrupted.",
    ]
    for command in COMMANDS:
        result = runner.invoke(app, [*command, "--help"], prog_name="nas-cntk")
        assert result.exit_code == 0, result.output
        name = " ".join(("nas-cntk", *command))
        text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts += [f"## {name}", f"```\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page, or with --check compare it."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {PAGE}")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE} is not current; run: python docs/make_cli.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
