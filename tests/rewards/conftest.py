from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from mira_pl.world.tokens import MAX_TOKENS, build_tokenizer


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPModel folder of the real classes: random weights, 32 x 32 pixels, projection 16."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = build_tokenizer()
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    text = tower | {
        "projection_dim": 16,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = tower | {"projection_dim": 16, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def images() -> torch.Tensor:
    """Four raw pictures, some pixels beyond [-1, 1]."""
    return 0.6 * torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))
