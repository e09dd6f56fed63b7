import torch

from edgelab import data
from edgelab.models import retrain, zoo


def test_a_retrained_checkpoint_is_in_the_manifest_and_loads(tmp_path, monkeypatch):
    images = torch.randint(0, 256, (1100, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = data.Split(images, torch.arange(1100) % 16)
    monkeypatch.setattr(data, "load", lambda name: data.Dataset(name, tuple("abcdefghijklmnop"), split, split))
    entry = retrain.retrain("resnet_tiny", "signs", epochs=1, folder=tmp_path)
    monkeypatch.setattr(zoo, "CHECKPOINTS", tmp_path)
    assert zoo.manifest() == {"signs/resnet_tiny": entry}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", entry["file"]]
    assert zoo.load_pretrained("resnet_tiny")(torch.zeros(1, 3, 32, 32)).shape == (1, 16)
