"""``python -m benchmarks.serving.environments FOLDER``: one virtual environment for each rival.

Each is the project's own runtime, version for version, with the rival on top: ``FOLDER/litserve``,
``FOLDER/ray``, ``FOLDER/bentoml``. About 1.5 GB each.
"""

import subprocess
from pathlib import Path

import click

from benchmarks.record import ROOT
from startup.path import child_environment, python_command

RIVALS = ("litserve", "ray", "bentoml")


def python_of(folder: Path, rival: str) -> Path:
    """The interpreter of a rival's environment, there or not."""
    return folder.absolute() / rival / "bin" / "python"


def make(folder: Path, rival: str) -> None:
    """Make or complete a rival's environment.

    Raises:
        subprocess.CalledProcessError: something could not be installed; pip has said what.
    """
    lock = ROOT / "requirements" / "runtime-cpu.txt"
    environment = folder.absolute() / rival
    _run(*python_command("-m", "deploy.bootstrap", str(environment), "--requirements", str(lock)))
    own = Path(__file__).parent / f"{rival}.txt"
    _run(python_of(folder, rival), "-P", "-m", "pip", "install", "--quiet", "--requirement", own)


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, env=child_environment())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--rival", "rivals", type=click.Choice(RIVALS), multiple=True, default=RIVALS)
def main(folder: Path, rivals: tuple[str, ...]) -> None:
    """Install the rivals under FOLDER, which should lie outside the project."""
    for rival in rivals:
        try:
            make(folder, rival)
        except subprocess.CalledProcessError as error:
            raise click.ClickException(f"{rival} cannot be installed: {error}") from None
        click.echo(f"{rival}: {python_of(folder, rival)}")


if __name__ == "__main__":
    main()
