"""Training loops of libraries, unmodified; where a library is not installed, its test is skipped."""

import pytest
from tests.run.scripts import require_exact, run

TRAINER = """
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, vocab_size=300)
model = BertForSequenceClassification(BertConfig(**sizes))
def row(number):
    tokens = torch.randint(0, 300, (16,))
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": torch.tensor(number % 2)}
data = [row(number) for number in range(48)]
quiet = dict(report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True)
arguments = TrainingArguments(output_dir="results", per_device_train_batch_size=8, num_train_epochs=1, **quiet)
Trainer(model=model, args=arguments, train_dataset=data).train()
"""
LIGHTNING = """
import lightning, torch
from torch import nn
class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(28, 64), nn.ReLU(), nn.Linear(64, 4))
    def training_step(self, batch, number):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())
data = torch.utils.data.TensorDataset(torch.randn(96, 28), torch.randint(0, 4, (96,)))
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", **quiet)
trainer.fit(Net(), torch.utils.data.DataLoader(data, batch_size=16))
"""


# Labels come from a DataLoader, as Lightning's inputs do. What the Trainer keeps beside its model is the last step's
# norm of gradients, 4 bytes (aten::linalg_vector_norm in clip_grad_norm_, held until the next step's is there).
CASES = [("accelerate", TRAINER, 4), ("lightning", LIGHTNING, 0)]


@pytest.mark.parametrize(("library", "text", "loose_bytes"), CASES)
def test_a_librarys_own_loop(tmp_path, library: str, text: str, loose_bytes: int) -> None:
    pytest.importorskip(library)
    finished = run(tmp_path, text, "-q")
    assert finished.code == 0, finished.stderr
    require_exact(finished.document, "training")
    assert [step["index"] for step in finished.document["steps"]] == [1, 2, 3]
    assert set(finished.document["passes"]["training"]["phases"]) == {"forward", "backward", "optimizer"}
    assert finished.document["passes"]["training"]["peak"]["by_category"]["unattributed"] == loose_bytes
