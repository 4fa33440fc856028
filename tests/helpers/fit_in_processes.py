"""Script for torchrun: a fit during which one process is killed."""

import json
import os
import signal
import sys

import mmgraph as mg
from mmgraph.train import progress_dir
from mmgraph.train.step import TrainStep

OPTIONS = {
    "epochs": 5,
    "batch_size": 40,
    "members": 2,
    "hidden_channels": 16,
    "experts": ("linear",),
    "completion": True,
    "seed": 0,
}
KILLED_BEFORE = 7  # of 15 steps


def samples() -> mg.MultimodalData:
    """Return few samples; one process has none of some modalities in its part."""
    return mg.load_dataset("heart")[range(119)]


def main(output: str) -> None:
    """Fit, and save the model under the rank of the process."""
    progress_dir.MAX_SAVES = 0  # save after every validation
    optimizer_step, taken = TrainStep.__call__, []
    marker = os.path.join(output, "killed")

    def step(self, part):
        taken.append(part.total)
        last = len(taken) == KILLED_BEFORE and os.environ["RANK"] == "1"
        if last and not os.path.exists(marker):
            with open(marker, "w"):
                os.kill(os.getpid(), signal.SIGKILL)
        optimizer_step(self, part)

    TrainStep.__call__ = step
    progress = os.path.join(output, "training")
    model = mg.FusionClassifier(**OPTIONS, checkpoint_dir=progress).fit(samples())
    model.save_pretrained(os.path.join(output, os.environ["RANK"]))
    if os.environ["RANK"] == "0":
        history = model.history_
        result = {"resumed": history.resumed, "losses": history.held_out_loss}
        sys.stdout.write(json.dumps({**result, "taken": len(taken)}))


if __name__ == "__main__":
    main(sys.argv[1])
