"""Makes the built-in classifier: `python -m models.train DATA` reads the data sets in DATA, writes the model's folder.

The same data, seed and versions of libraries give the same bytes.
"""

import argparse
import hashlib
import json
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from models.card import card, report
from models.graph import graph
from models.rows import HEADS, checksums, read
from models.training import Trained, train
from models.windows import PIECES, STRIDE, WINDOWS
from processors.guard.features import PARAMETERS

FOLDER = Path(__file__).parents[1] / "connectors" / "models" / "guard"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.train", description="Makes the guard's built-in classifier."
    )
    parser.add_argument("data", type=Path, help="the folder of data sets that docs/data.md lists")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--without-openrail", action="store_true", help="leave out the file whose licence restricts its use"
    )
    options = parser.parse_args()
    openrail = not options.without_openrail
    try:
        rows, sums = read(options.data, options.seed, openrail), checksums(options.data, openrail)
    except FileNotFoundError as error:
        parser.error(f"{error.filename} is missing; give the folder that holds the files of docs/data.md")
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=1)
        trained = train(
            rows, options.seed, lambda step, share: progress.update(task, description=step, completed=share)
        )
    write(options.out, trained, card(trained, rows, sums, options.seed))
    print(report(trained))


def write(folder: Path, trained: Trained, text: str) -> None:
    """The folder as connectors.classifier loads it, and its model card."""
    folder.mkdir(parents=True, exist_ok=True)
    serialised = graph({head: trained.models[head] for head in HEADS})
    (folder / "model.onnx").write_bytes(serialised)
    config = {
        "version": f"guard-{PARAMETERS['version']}-{hashlib.sha256(serialised).hexdigest()[:12]}",
        "labels": HEADS,
        "windows": WINDOWS,
        "pieces": PIECES,
        "stride": STRIDE,
        "thresholds": trained.thresholds,
        "features": PARAMETERS,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with threadpool_limits(1):  # sums of several threads differ from run to run
        main()
