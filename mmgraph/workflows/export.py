"""Export of a saved model to one file for ONNX Runtime or torch.export."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmgraph.workflows.outputs import check_file
from mmgraph.workflows.saved_model import load_any


@dataclass(frozen=True)
class ExportResult:
    """An exported model.

    Attributes:
        file: The file that was written.
        megabytes: Its size (1e6 bytes).
        inputs: Shape of each input tensor by name; symbolic sizes are strings.
    """

    file: Path
    megabytes: float
    inputs: Mapping[str, tuple[int | str, ...]]


def export_model(
    model: Path, output: Path, encoders: Mapping[str, str] | None = None
) -> ExportResult:
    """Export a saved model.

    Args:
        model: Folder of the saved model.
        output: File to write, ending in .onnx or .pt2.
        encoders: Paths of pretrained encoders that have moved, by modality.

    Raises:
        CheckpointError: If the folder contains no model.
        ConfigError: If the output cannot be written, or a required package is missing.
    """
    from mmgraph import serving

    check_file(output, ".onnx", ".pt2", inputs=(encoders or {}).values())
    estimator = load_any(model, device="cpu", encoders=encoders)
    serving.export(estimator, output)
    inputs = {
        name: tuple(shape)
        for name, shape in serving.inputs_of(estimator.schema_).items()
    }
    return ExportResult(output, output.stat().st_size / 1e6, inputs)
