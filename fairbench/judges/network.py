"""The network of a judge: a timm backbone, one linear head per attribute, and one for the face."""

from torch import Tensor, nn

from fairbench.judges.description import JudgeDescription
from fairbench.networks import as_input, backbone, pooled_width


class JudgeNetwork(nn.Module):
    """Logits of every attribute, and whether there is a face, from the same pooled features."""

    def __init__(self, description: JudgeDescription):
        super().__init__()
        self.image_size = description.image_size
        where = f"judge {description.name}"
        self.backbone = backbone(description.architecture, description.kwargs, where)
        width = pooled_width(self.backbone)
        self.face = nn.Linear(width, 1)
        self.heads = nn.ModuleDict(
            {f"of_{name}": nn.Linear(width, len(labels)) for name, labels in description.attributes.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return attribute -> N x K logits and "face" -> N logits of N x 3 x H x W images in [0, 1]."""
        features = self.backbone(as_input(images, self.image_size))
        logits = {name.removeprefix("of_"): head(features) for name, head in self.heads.items()}
        return logits | {"face": self.face(features).squeeze(1)}
