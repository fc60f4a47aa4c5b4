"""infoae figures."""

from __future__ import annotations

from pathlib import Path

from infoae.cli.options import (
    CheckpointChoice,
    CheckpointOption,
    DeviceOption,
    JsonOption,
    MovedDataOption,
    RunArgument,
    RunsOption,
    echo,
    print_json,
)
from infoae.gpu import Device


def figures(
    run: RunArgument = "latest",
    checkpoint: CheckpointOption = CheckpointChoice.best,
    data_root: MovedDataOption = None,
    device: DeviceOption = Device.AUTO,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Draw a run's figures as PNG files: those of the paper, its losses and its confusion matrix."""
    from infoae.device import on_free_cpus, resolve_device
    from infoae.evaluation.figures import draw_all
    from infoae.loading import load_tests
    from infoae.methods.registry import model_of
    from infoae.runs.run import Run

    found = Run.open(run, runs)
    test = load_tests(found, data_root)
    model = model_of(found, checkpoint.value).to(resolve_device(device.value))
    written: dict[str, str] = {}
    with on_free_cpus():
        for name, path in draw_all(found, model, test):
            written[name] = str(path)
            if not as_json:
                echo(path)
    if as_json:
        print_json({"run": found.name, "figures": written})
