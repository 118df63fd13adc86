"""The models behind published figures, as far as the publications describe them: for scripts/published_tables."""

import torch
import transformers
from torch import nn
from torch.nn import functional

from vramscope import Workload

ALPACA_LONGEST = 1304
"""Tokens of the longest Alpaca sample, an assumption: the published table does not say what its peak was reached on."""
CHUNKS = 8


def _tokens(model, batch, seq):
    return torch.randint(model.config.vocab_size, (batch, seq))


def _llama32_3b():
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=128_256,
            hidden_size=3072,
            intermediate_size=8192,
            num_hidden_layers=28,
            num_attention_heads=24,
            num_key_value_heads=8,
            max_position_embeddings=131_072,
            tie_word_embeddings=True,
            use_cache=False,
        )
    )


def _recomputing(model, checkpoint):
    if checkpoint:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def llama32_3b(batch=2, seq=4096, checkpoint=False):
    """torchtune's full fine-tune: logits of every token at once."""
    model = _recomputing(_llama32_3b(), checkpoint)
    tokens = _tokens(model, batch, seq)
    return Workload(model, {"input_ids": tokens, "labels": tokens})


class Chunked(nn.Module):
    """Logits and loss of an eighth of the tokens at a time."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        hidden = self.model.model(input_ids=tokens).last_hidden_state
        parts = [self.model.lm_head(part) for part in hidden.chunk(CHUNKS, dim=1)]
        losses = [
            functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
            for logits, targets in zip(parts, tokens.chunk(CHUNKS, dim=1), strict=True)
        ]
        return torch.stack(losses).mean()


def llama32_3b_chunked(batch=2, seq=4096, checkpoint=False):
    """torchtune's full fine-tune with its chunked loss."""
    model = _recomputing(_llama32_3b(), checkpoint)
    return Workload(Chunked(model), _tokens(model, batch, seq), lambda loss, _: loss)


def _lora(model, batch):
    import peft

    config = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"])
    tokens = _tokens(model, batch, ALPACA_LONGEST)
    return Workload(peft.get_peft_model(model, config), {"input_ids": tokens, "labels": tokens})


def llama2_7b_lora(batch=1):
    """LitGPT's LoRA of queries and values."""
    config = transformers.LlamaConfig(vocab_size=32_000, num_hidden_layers=32, hidden_size=4096, use_cache=False)
    return _lora(transformers.LlamaForCausalLM(config), batch)


def phi15_lora(batch=1):
    """LitGPT's LoRA of queries and values."""
    fused = "gelu_pytorch_tanh"  # LitGPT calls torch's own approximation, transformers' default is written out
    config = transformers.PhiConfig(vocab_size=51_200, num_hidden_layers=24, hidden_act=fused, use_cache=False)
    return _lora(transformers.PhiForCausalLM(config), batch)


class Bottleneck(nn.Module):
    """He et al. 2016, with the stride in the 3x3 convolution, as timm has it."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.shortcut is None else self.shortcut(x)
        x = self.act(self.bn1(self.conv1(x)))
        x = self.act(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += shortcut
        return self.act(x)


def resnet50(batch=8):
    """A training step on 224x224 images."""
    stem = (nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
    blocks, inputs = [], 64
    for width, depth, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for place in range(depth):
            blocks.append(Bottleneck(inputs, width, first_stride if place == 0 else 1))
            inputs = 4 * width
    model = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))
    images, classes = torch.randn(batch, 3, 224, 224), torch.randint(1000, (batch,))
    return Workload(model, images, functional.cross_entropy, classes)


WIDTH, HEADS, LENGTH, BATCH = 1024, 16, 1024, 4


class Layer(nn.Module):
    """The transformer layer of Korthikanti et al. 2022, figure 2: attention written out, dropout at three places."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query_key_value, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        query, key, value = self.query_key_value(self.norm1(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (query, key, value))
        scores = query @ key.transpose(-2, -1) / (WIDTH / HEADS) ** 0.5
        mixed = (self.dropout(scores.softmax(-1)) @ value).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.project(mixed))
        return x + self.dropout(self.narrow(functional.gelu(self.widen(self.norm2(x)))))


def korthikanti_one():
    """One layer."""
    return Workload(nn.Sequential(Layer()), torch.randn(BATCH, LENGTH, WIDTH))


def korthikanti_two():
    """Two layers: what they keep more than one does is what a layer keeps."""
    return Workload(nn.Sequential(Layer(), Layer()), torch.randn(BATCH, LENGTH, WIDTH))
