"""What of a model is sharded by itself."""

from torch import nn

from vramscope.predict.fsdp import blocks_of


def test_blocks_are_the_members_of_the_outermost_lists_that_have_parameters() -> None:
    layers = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2)])) for _ in range(2))
    encoder = nn.ModuleDict({"layer": nn.ModuleList([nn.Linear(2, 2)])})
    drops = nn.ModuleList([nn.Dropout(), nn.LayerNorm(2)])
    model = nn.ModuleDict({"embed": nn.Linear(2, 2), "layers": layers, "encoder": encoder, "drops": drops})
    assert dict(blocks_of(model)) == {
        "layers.0": layers[0],
        "layers.1": layers[1],
        "encoder.layer.0": encoder["layer"][0],
        "drops.1": drops[1],
    }
    assert dict(blocks_of(layers)) == {"0": layers[0], "1": layers[1]}
