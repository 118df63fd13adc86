"""Models that no configuration file describes well enough: diffusers', and those that need inputs that fit together."""

from typing import Any

import torch
from torch import Tensor, nn

from vramscope import Workload

_BATCH, _SIDE, _CHANNELS = 2, 16, 4
_PROMPT = torch.Size((_BATCH, 6, 32))
"""A prompt's encoding: tokens and width."""


def _denoising(model: nn.Module, inputs: dict[str, Any], channels: int = _CHANNELS) -> Workload:
    """The canonical diffusion loss: mean squared error against the noise."""
    return Workload(model, inputs, _noise_loss, torch.randn(_BATCH, channels, _SIDE, _SIDE))


def _noise_loss(outputs: Any, noise: Tensor) -> Tensor:
    return nn.functional.mse_loss(outputs.sample[:, : noise.shape[1]], noise)


def _noisy() -> dict[str, Tensor]:
    return {"sample": torch.randn(_BATCH, _CHANNELS, _SIDE, _SIDE), "timestep": torch.randint(1000, (_BATCH,))}


def unet() -> Workload:
    """The U-Net of DDPM (Ho et al. 2020), with attention at one resolution."""
    from diffusers import UNet2DModel

    model = UNet2DModel(
        sample_size=_SIDE,
        in_channels=_CHANNELS,
        out_channels=_CHANNELS,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
    )
    return _denoising(model, _noisy())


def unet_with_text() -> Workload:
    """The U-Net of Stable Diffusion (Rombach et al. 2022): cross-attention to a prompt."""
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=_SIDE,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=_PROMPT[-1],
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return _denoising(model, {**_noisy(), "encoder_hidden_states": torch.randn(_PROMPT)})


def diffusion_transformer() -> Workload:
    """DiT (Peebles and Xie 2023): a transformer over latent patches, conditioned on a class."""
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=8, in_channels=_CHANNELS, num_layers=2, sample_size=_SIDE
    )
    noisy = _noisy()
    inputs = {"hidden_states": noisy["sample"], "timestep": noisy["timestep"]}
    return _denoising(model, {**inputs, "class_labels": torch.randint(1000, (_BATCH,))})


def sd3_transformer() -> Workload:
    """The transformer of Stable Diffusion 3 (Esser et al. 2024): image and text streams with joint attention."""
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=_SIDE,
        in_channels=_CHANNELS,
        out_channels=_CHANNELS,
        num_layers=2,
        num_attention_heads=4,
        attention_head_dim=8,
        joint_attention_dim=_PROMPT[-1],
        caption_projection_dim=32,
        pooled_projection_dim=64,
        pos_embed_max_size=_SIDE,
    )
    noisy = _noisy()
    inputs = {"hidden_states": noisy["sample"], "timestep": noisy["timestep"]}
    prompt = {"encoder_hidden_states": torch.randn(_PROMPT), "pooled_projections": torch.randn(_BATCH, 64)}
    return _denoising(model, {**inputs, **prompt})


def autoencoder() -> Workload:
    """The variational autoencoder of latent diffusion."""
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=_CHANNELS,
        norm_num_groups=4,
        sample_size=_SIDE,
    )
    return _denoising(model, {"sample": torch.randn(_BATCH, 3, _SIDE, _SIDE)}, channels=3)


def llava() -> Workload:
    """LLaVA (Liu et al. 2023): an image's patches take the place of the prompt's image tokens."""
    import transformers

    layers = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **layers, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "llama", **layers, "vocab_size": 96},
        image_token_index=95,
        vision_feature_layer=-1,
    )
    patches = (32 // 8) ** 2
    tokens = torch.randint(95, (_BATCH, patches + 8))
    tokens[:, :patches] = 95
    inputs = {"input_ids": tokens, "pixel_values": torch.randn(_BATCH, 3, 32, 32), "labels": tokens}
    return Workload(transformers.LlavaForConditionalGeneration(config), inputs)


def qwen2_vl() -> Workload:
    """Qwen2-VL (Wang et al. 2024): images of any size as a list of patches, merged two by two."""
    import transformers

    layers = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = transformers.Qwen2VLConfig(
        text_config={**layers, "vocab_size": 96, "num_key_value_heads": 2, "rope_parameters": rope},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 4},
        image_token_id=95,
        video_token_id=94,
        vision_start_token_id=93,
        vision_end_token_id=92,
    )
    rows = columns = 4  # patches of one image; 2 x 2 of them make a token
    tokens = torch.randint(90, (1, 14))
    tokens[0, 2], tokens[0, 3:7], tokens[0, 7] = 93, 95, 92
    values_per_patch = 3 * 2 * 4 * 4  # channels, frames, height, width
    inputs = {
        "input_ids": tokens,
        "mm_token_type_ids": (tokens == 95).int(),
        "pixel_values": torch.randn(rows * columns, values_per_patch),
        "image_grid_thw": torch.tensor([[1, rows, columns]]),
        "labels": tokens,
    }
    return Workload(transformers.Qwen2VLForConditionalGeneration(config), inputs)
