"""Scripts nobody adapted: what is found in each, with sums exact to the byte."""

import os
from typing import Any

import pytest
from tests.processes import unmeasured
from tests.run.scripts import TRAINING, plainly, require_exact, run

from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.recording.file import read_recording

GAN = """
import torch
from torch import nn
generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32))
critic = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))
of_generator, of_critic = torch.optim.Adam(generator.parameters()), torch.optim.Adam(critic.parameters())
loss_of = nn.BCEWithLogitsLoss()
for step in range(6):
    real, fake = torch.randn(16, 32), generator(torch.randn(16, 8))
    of_critic.zero_grad()
    (loss_of(critic(real), torch.ones(16, 1)) + loss_of(critic(fake.detach()), torch.zeros(16, 1))).backward()
    of_critic.step()
    of_generator.zero_grad()
    loss_of(critic(fake), torch.ones(16, 1)).backward()
    of_generator.step()
"""
TAUGHT = """
import torch
from torch import nn
teacher = nn.Linear(64, 10).eval().requires_grad_(False)
student = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(student.parameters())
for step in range(6):
    inputs = torch.randn(32, 64)
    with torch.no_grad():
        targets = teacher(inputs).softmax(-1)
    loss = nn.functional.cross_entropy(student(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
EVALUATED_FIRST = """
import torch
from torch import nn
model = nn.Linear(64, 10)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
with torch.no_grad():
    for batch in range(2):
        model(torch.randn(32, 64))
for step in range(6):
    optimizer.zero_grad()
    model(torch.randn(32, 64)).square().mean().backward()
    optimizer.step()
"""
TAUGHT_IN_PARTS = """
import torch
from torch import nn
teacher = nn.Linear(64, 10).requires_grad_(False)
student = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(student.parameters())
for part in range(24):
    inputs = torch.randn(32, 64)
    with torch.no_grad():
        targets = teacher(inputs)
    (student(inputs) - targets).square().mean().backward()
    if part % 4 == 3:
        optimizer.step()
        optimizer.zero_grad()
"""
FOLDS = """
import torch
from torch import nn
for fold in range(5):
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(torch.randn(32, 64)).square().mean().backward()
        optimizer.step()
"""
JOINS_LATER = """
import torch
from torch import nn
first, second = nn.Linear(64, 10), nn.Linear(10, 5)
optimizer = torch.optim.SGD(first.parameters(), 0.1)
for step in range(6):
    outputs = first(torch.randn(32, 64))
    loss = (second(outputs) if step >= 2 else outputs).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
CLEARS_FIRST = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(6):
    inputs, labels = torch.randn(4, 256), torch.randint(0, 10, (4,))
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), labels)
    loss.backward()
    optimizer.step()
"""
EVALUATED_LATE = """
import torch
from torch import nn
class Average(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64, 256))
    def forward(self, x):
        return nn.functional.gelu(x @ self.weight)
model, average = nn.Linear(64, 10), Average()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(3):
    optimizer.zero_grad()
    model(torch.randn(32, 64)).square().mean().backward()
    optimizer.step()
    if step == 1:  # after its end, which is in the second of the steps that are recorded
        with torch.no_grad():
            average(torch.randn(2048, 64))
"""
SKELETON = """
import torch
from torch import nn
with torch.device("meta"):
    skeleton = nn.Linear(64, 64)
skeleton(torch.empty(1, 64, device="meta"))
model = nn.Linear(64, 64)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(5):
    optimizer.zero_grad()
    model(torch.randn(8, 64)).sum().backward()
    optimizer.step()
"""
WITHOUT_MODEL = """
import torch
from torch import nn
points, colours = nn.Parameter(torch.randn(1000, 3)), nn.Parameter(torch.rand(1000, 3))
optimizer = torch.optim.Adam([{"params": [points]}, {"params": [colours]}])
seen = torch.rand(64, 3)
for step in range(5):
    (torch.softmax(-torch.cdist(seen, points), 1) @ colours - seen).abs().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
DRY = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(model.parameters())
with torch.no_grad():
    model(torch.zeros(1, 64))
for step in range(5):
    loss = nn.functional.cross_entropy(model(torch.randn(32, 64)), torch.randint(10, (32,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
ADJOINT = """
import torch
from torch import nn
class Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, *parameters):
        ctx.save_for_backward(y, *parameters)
        for _ in range(3):
            y = y + model(y)
        return y
    @staticmethod
    def backward(ctx, gradient):
        y, *parameters = ctx.saved_tensors
        with torch.enable_grad():
            for _ in range(3):
                y = y + model(y)
        return None, *torch.autograd.grad(y, parameters, gradient)
model = nn.Linear(64, 64)
optimizer = torch.optim.AdamW(model.parameters())
for step in range(5):
    loss = Adjoint.apply(torch.randn(8, 64), *model.parameters()).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
BATCHES_OF_OWN_CLASS = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
class Batch:
    def __init__(self, rows):
        self.inputs, self.labels = (torch.stack(column) for column in zip(*rows))
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
    def forward(self, batch):
        return self.layer(batch.inputs)
rows = TensorDataset(torch.randn(40, 64), torch.randn(40, 10))
model = Model()
optimizer = torch.optim.AdamW(model.parameters())
for batch in DataLoader(rows, 8, collate_fn=Batch):
    batch.steps = [model.layer.weight.grad, *(part["exp_avg"] for part in optimizer.state.values())]
    loss = (model(batch) - batch.labels).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
SCRIPTED = """
import warnings
import torch
from torch import nn
warnings.simplefilter("ignore", FutureWarning)  # TorchScript is going away
model, loss_of = torch.jit.script(nn.Linear(64, 10)), torch.jit.script(nn.MSELoss())
optimizer = torch.optim.AdamW(model.parameters())
for step in range(5):
    loss = loss_of(model(torch.randn(32, 64)), torch.randn(32, 10))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
TRACED = """
import warnings
import torch
from torch import nn
warnings.simplefilter("ignore")  # TorchScript is going away
model, inputs = nn.Sequential(nn.Linear(64, 16), nn.ReLU()).eval(), torch.randn(32, 64)
with torch.no_grad():
    model(inputs)
    traced = torch.jit.trace(model, inputs)
    for step in range(4):
        traced(inputs)
print(traced.graph)
"""
SCRIPTED_INFERENCE = """
import warnings
import torch
from torch import nn
warnings.simplefilter("ignore")  # TorchScript is going away
model = torch.jit.script(nn.Linear(64, 10))
with torch.inference_mode():
    for step in range(8):
        model(torch.randn(32, 64))
"""
HOOKS_COUNTED = """
import torch
from torch import nn
register, hooked = nn.Module.register_forward_hook, []
def count(module, *args, **kwargs):
    hooked.append(module)
    return register(module, *args, **kwargs)
nn.Module.register_forward_hook = count
model = nn.Linear(64, 10)
with torch.inference_mode():
    for step in range(20):
        model(torch.randn(32, 64))
        if step == 9:
            earlier = len(hooked)
print(earlier > 0, len(hooked) - earlier)
"""
ODD_OBJECTS = """
import torch
from torch import nn
class Cache:
    layers = 12
class Output:
    def __init__(self, logits):
        self.kept = dict(logits=logits)
    def __getattr__(self, name):
        return self.__dict__["kept"][name]
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 64)
    def forward(self, x, past_key_values):
        return self.layer(x)
class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Model()
    def forward(self, x, past_key_values):
        return Output(self.model(x, past_key_values))
model = Model()
{compiled}
outer, x = Outer(), torch.ones(4, 64)
optimizer = torch.optim.SGD([*model.parameters(), *outer.parameters()], 0.1)
for step in range(5):
    loss = (model(x, past_key_values=Cache()) + outer(x, past_key_values=Cache()).logits).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("ended")
"""
FOREIGN_GRADIENTS = """
import numpy, torch
from torch import nn
weight = nn.Parameter(torch.zeros(1000, 1000))
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = weight
    def forward(self, x):
        return x @ self.weight
model, x, kept = Model(), torch.ones(2, 1000), []
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(6):
    with torch.no_grad():
        model(x)
    kept.append(numpy.ones((1000, 1000), dtype=numpy.float32))
    weight.grad = torch.from_numpy(kept[-1])
    optimizer.step()
"""
DECODING = """
import torch
from torch import nn
class Layer:
    keys = values = None
class Cache:
    def __init__(self):
        self.layers = [Layer()]
class Output:
    def __init__(self, logits, cache):
        self.logits, self.past_key_values = logits, cache
class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(64, 64)
    def forward(self, x, past_key_values):
        layer = past_key_values.layers[0]
        if layer.keys is None:
            layer.keys, layer.values = torch.zeros(512, 64), torch.zeros(512, 64)
        layer.keys[:4] = self.project(x)
        layer.values[:4] = x
        return Output(x, past_key_values)
decoder, cache, x = Decoder(), Cache(), torch.ones(4, 64)
layer = cache.layers[0]
with torch.no_grad():
    for step in range(6):
        decoder(x, past_key_values=cache)
        {between}
"""
REORDERS = """order = torch.arange(512)
        layer.keys, layer.values = layer.keys.index_select(0, order), layer.values.index_select(0, order)"""
AMP = """
import torch
from torch import nn
from torch.profiler import record_function
layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(64, 5))
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
scaler = torch.amp.GradScaler("cpu")
for batch in range(12):
    with record_function("one batch"):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(torch.randn(4, 10, 64))[:, 0]
            loss = nn.functional.cross_entropy(logits.float(), torch.randint(5, (4,))) / 2
        scaler.scale(loss).backward()
        if batch % 2:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
"""
CHECKPOINTED = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True) for _ in range(3))
        self.head = nn.Linear(64, 5)
    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return self.head(x[:, 0])
model = Net()
optimizer = torch.optim.AdamW(model.parameters())
for step in range(5):
    loss = nn.functional.cross_entropy(model(torch.randn(4, 10, 64)), torch.randint(5, (4,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
AFTER_STEPS = """
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
model = nn.Linear(64, 10)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
def average(*step):
    zeros = torch.zeros(500_000)
    [parameter.detach() * 0.9 for parameter in model.parameters()]
register_optimizer_step_post_hook(average)
for step in range(5):
    model(torch.randn(32, 64)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
CLOSURE = """
import torch
from torch import nn
model = nn.Linear(64, 10)
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
inputs, targets = torch.randn(32, 64), torch.randn(32, 10)
for step in range(4):
    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        return loss
    optimizer.step(closure)
"""
TOLD = """
import torch
from torch import nn
model = nn.Linear(64, 10)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
told = []
for step in range(6):
    loss = model(torch.randn(32, 64)).square().mean()
    optimizer.zero_grad()
    told.append(len(model.weight._post_accumulate_grad_hooks or ()))
    loss.backward()
    optimizer.step()
print(told)
"""
LAZY = """
import torch
from torch import nn
model = nn.Sequential(nn.LazyLinear(32), nn.ReLU(), nn.LazyLinear(5))
optimizer = None
for step in range(4):
    loss = model(torch.randn(8, 16)).square().mean()
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
IN_BACKWARD = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizers = dict((parameter, torch.optim.AdamW([parameter])) for parameter in model.parameters())
def step_now(parameter):
    optimizers[parameter].step()
    optimizers[parameter].zero_grad()
for parameter in model.parameters():
    parameter.register_post_accumulate_grad_hook(step_now)
for step in range({steps}):
    loss = model(torch.randn(32, 64)).square().mean()
    loss.backward()
    {after}
print([len(parameter._post_accumulate_grad_hooks) for parameter in model.parameters()])
"""
SWAPPED = """
import torch
from torch import nn
torch.__future__.set_swap_module_params_on_conversion(True)
model = nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(6):
    optimizer.zero_grad()
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    model.to(torch.float64).to(torch.float32)
"""
SAME_PLACE = """
import torch
from torch import nn
class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.ones(4096))
    def forward(self, x):
        return x * self.by
first, second = Scale(), Scale()
optimizer = torch.optim.SGD(second.parameters(), 0.1)
# so large that malloc maps each by itself, where the last one was
kept, given, came, ones = [], [], [], torch.ones(4096, 4096)
for step in range(5):
    with torch.no_grad():
        given.append(first(ones).data_ptr())
    inputs = torch.zeros(4096, 4096)
    kept.append(torch.ones(100))
    came.append(inputs.data_ptr())
    optimizer.zero_grad()
    second(inputs).sum().backward()
    optimizer.step()
    del inputs
print(given[1:4] == came[1:4])
"""
COMPILED_LATE = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.calls = nn.Linear(64, 64), nn.Linear(64, 64), 0
    def forward(self, x):
        self.calls += 1
        if self.calls == 2:
            self.second.compile(backend="eager")
        return self.second(torch.relu(self.first(x)))
model = Net()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(6):
    optimizer.zero_grad()
    model(torch.randn(32, 64)).square().mean().backward()
    optimizer.step()
"""
TEACHER = """
import torch
from torch import nn
student, teacher = (nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(2))
optimizer = torch.optim.SGD(student.parameters(), 0.1)
inputs = torch.randn(32, 64)
for step in range(5):
    optimizer.zero_grad()
    output = student(inputs)
    with torch.no_grad():
        goal = teacher(inputs)
    (output * (goal > 0).float()).square().mean().backward()
    optimizer.step()
    del output, goal
"""
IDLE_PROFILER = f"""
import torch
idle = torch.profiler.profile(schedule=torch.profiler.schedule(wait=0, warmup=1, active=1))
{TRAINING}
for _ in train(6): pass
"""
GENERATE = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel
sizes = dict(n_layer=2, n_head=2, n_embd=64, vocab_size=200, n_positions=64, bos_token_id=0, eos_token_id=0)
model = GPT2LMHeadModel(GPT2Config(**sizes)).eval()
print(model.generate(torch.randint(1, 199, (2, 8)), min_new_tokens=8, max_new_tokens=8, pad_token_id=0).shape)
"""
RECURRENT = """
import torch
from torch import nn
from torch.profiler import record_function
model = nn.Linear(256, 256)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
state, kept = torch.randn(64, 256), []
for step in range(6):
    kept.append(torch.zeros(100))
    with record_function("one step"):
        following = model(state)
        optimizer.zero_grad()
        following.square().mean().backward()
        state = following.detach()
        del following
        optimizer.step()
"""
LOOKING = """
import gc, torch, weakref
from torch.utils.data import DataLoader, TensorDataset
def references(): return sum(issubclass(type(found), weakref.ref) for found in gc.get_objects())
before = references()
for batch in DataLoader(TensorDataset(torch.arange(500)), 1): pass
print(references() - before < 100)
"""
OWN_PROFILER_IN_INFERENCE = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).eval()
with torch.no_grad():
    for call in range(12):
        if call == 1:
            with torch.profiler.profile(): model(torch.ones(8, 64))
        else:
            model(torch.ones(8, 64))
"""
TRAINER = """
import torch
from torch import nn
class Trainer(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.optimizer = model, torch.optim.SGD(model.parameters(), 0.1)
    def forward(self, state):
        self.optimizer.zero_grad()
        output = self.model(state)
        output.sum().backward()
        self.optimizer.step()
        return output.detach().clone()
trainer, state = Trainer(nn.Linear(512, 512)), torch.randn(512, 512)
for step in range(5):
    state = trainer(state)
"""
FOREIGN = (
    TRAINING
    + """
from torch.profiler import ProfilerActivity, profile
for step, loss in train(2): pass
with profile(activities=[ProfilerActivity.CPU]) as profiler:
    for step, loss in train(2): pass
for step, loss in train(4): pass
print([(row.key, row.count) for row in profiler.key_averages() if row.key == "aten::addmm"])
"""
)
LEAK = (
    TRAINING
    + """
kept = []
for step, loss in train(74):  # what the first window left for the collector may fall in between: time enough
    kept.append(loss)
    kept.append(torch.zeros(1000 + step // 100))
"""
)


def found(tmp_path, text: str, *options: str, name: str = "training") -> dict[str, Any]:
    finished = run(tmp_path, text, "-q", *options)
    assert finished.code == 0, finished.stderr
    require_exact(finished.document, name)
    return finished.document


def steps_of(document: dict[str, Any]) -> list[int]:
    return [step["index"] for step in document["steps"]]


def counted(document: dict[str, Any]) -> list[tuple[str, int, int, int]]:
    """Of each kind of step that was only counted: the kind, the first, the last, and how many."""
    return [(row["kind"], row["first_index"], row["last_index"], row["steps"]) for row in document["counted_steps"]]


def unattributed(document: dict[str, Any], name: str = "training") -> int:
    return int(document["passes"][name]["peak"]["by_category"]["unattributed"])


def test_a_gan_has_one_step_for_both_optimizers(tmp_path) -> None:
    document = found(tmp_path, GAN)
    assert steps_of(document) == [1, 2, 3]
    peak = document["passes"]["training"]["peak"]["by_category"]
    # (8 * 64 + 64 + 64 * 32 + 32) + (32 * 64 + 64 + 64 * 1 + 1) parameters of 4 bytes; Adam keeps two copies of each,
    # and a counter of 4 bytes for each of the 8 tensors
    assert peak["parameters"] == 4 * (2656 + 2177)
    assert peak["optimizer_state"] == 2 * peak["parameters"] + 8 * 4
    assert peak["unattributed"] == 0
    assert {row["path"].partition(".")[0] for row in document["passes"]["training"]["modules"]} >= {"0", "Sequential"}


def test_a_teacher_that_runs_first_is_a_model_and_no_step(tmp_path) -> None:
    document = found(tmp_path, TAUGHT)
    assert steps_of(document) == [1, 2, 3]
    assert {row["kind"] for row in document["steps"]} == {"training"}
    # 64 * 10 + 10 of the teacher, 64 * 256 + 256 + 256 * 10 + 10 of the student
    assert document["workload"]["parameter_count"] == 650 + 19_210
    training = document["passes"]["training"]
    assert training["peak"]["by_category"]["parameters"] == (650 + 19_210) * 4
    assert sum(row["parameter_bytes"] for row in training["modules"]) == (650 + 19_210) * 4
    require_exact(document, "training")
    assert counted(document) == [("training", 0, 5, 3)]  # 0, 4 and 5


def test_a_teacher_is_part_of_the_first_step_where_that_is_recorded(tmp_path) -> None:
    document = found(tmp_path, TAUGHT, "--all")
    assert [(row["kind"], row["index"]) for row in document["steps"]] == [("training", n) for n in range(6)]


def test_a_step_that_began_as_another_kind_is_counted(tmp_path) -> None:
    finished = run(tmp_path, EVALUATED_FIRST, "-q")
    steps = [(row["kind"], row["index"]) for row in finished.document["steps"]]
    assert steps == [("inference", 1), *(("training", n) for n in (1, 2, 3))]
    # step 0 of the training was being recorded as the third forward without gradients until it ended
    assert counted(finished.document) == [("inference", 0, 0, 1), ("training", 0, 5, 3)]


def test_a_teacher_makes_no_inference_of_a_step_in_parts(tmp_path) -> None:
    document = found(tmp_path, TAUGHT_IN_PARTS)
    assert list(document["passes"]) == ["training"]
    assert steps_of(document) == [1, 2, 3]
    require_exact(document, "training")


def test_every_fold_has_an_optimizer_of_its_own(tmp_path) -> None:
    document = found(tmp_path, FOLDS, "--all")
    assert steps_of(document) == list(range(15))


def test_a_model_that_is_called_from_a_later_step_on_is_older_than_the_window(tmp_path) -> None:
    document = found(tmp_path, JOINS_LATER)
    assert steps_of(document) == [1, 2, 3]
    assert document["passes"]["training"]["peak"]["by_category"]["parameters"] == (64 * 10 + 10 + 10 * 5 + 5) * 4
    require_exact(document, "training")


def test_a_model_whose_first_call_is_in_a_recorded_step_has_its_modules(tmp_path) -> None:
    peak = found(tmp_path, EVALUATED_LATE)["passes"]["training"]["peak"]
    # what goes into the activation and what comes out of it: 2048 rows of 256 numbers of 4 bytes each
    assert peak["by_category"]["activations"] == 2 * 2048 * 256 * 4
    assert peak["by_category"]["unattributed"] == 0
    assert (peak["phase"], peak["module"]) == ("forward", "Average")


def test_parameters_of_no_model_are_those_of_their_optimizer(tmp_path) -> None:
    document = found(tmp_path, WITHOUT_MODEL)
    assert document["workload"]["parameter_count"] == 2 * 3000
    training = document["passes"]["training"]
    (row,) = [row for row in training["modules"] if row["path"] == "Adam"]
    assert row["parameter_bytes"] == row["gradient_bytes"] == 2 * 3000 * 4
    assert row["optimizer_state_bytes"] == 2 * row["parameter_bytes"] + 2 * 4  # two averages each, and its steps
    assert training["phases"]["optimizer"]["by_category"]["gradients"] == 2 * 3000 * 4
    assert unattributed(document) == 0


def test_a_model_without_memory_that_is_called_first_is_not_what_is_recorded(tmp_path) -> None:
    document = found(tmp_path, SKELETON)
    assert document["workload"]["device"] == "cpu"
    assert document["passes"]["training"]["peak"]["by_category"]["parameters"] == (64 * 64 + 64) * 4


@pytest.mark.parametrize(
    ("option", "steps"),
    [([], [("training", n) for n in (1, 2, 3)]), (["--all"], [("inference", 0), *(("training", n) for n in range(5))])],
    ids=["default", "all"],
)
def test_a_dry_run_before_the_training_is_an_inference_step(tmp_path, option, steps) -> None:
    finished = run(tmp_path, DRY, "-q", *option)
    assert [(row["kind"], row["index"]) for row in finished.document["steps"]] == steps
    assert (finished.document["passes"]["training"]["cold"] is None) == (option == [])
    require_exact(finished.document, *sorted({kind for kind, _ in steps}, reverse=True))


@pytest.mark.parametrize("option", [[], ["--all"]], ids=str)
def test_forwards_of_an_adjoint_method_are_no_inference_steps(tmp_path, option: list[str]) -> None:
    document = run(tmp_path, ADJOINT, "-q", *option).document
    assert {row["kind"] for row in document["steps"]} == {"training"}
    assert steps_of(document) == ([0, 1, 2, 3, 4] if option else [1, 2, 3])
    require_exact(document, "training")


def test_what_objects_of_the_scripts_own_classes_keep_is_an_input_unless_it_is_something_else(tmp_path) -> None:
    finished = run(tmp_path, BATCHES_OF_OWN_CLASS, "-q")
    peak = finished.document["passes"]["training"]["peak"]["by_category"]
    assert (peak["inputs"], peak["unattributed"]) == (8 * (64 + 10) * 4, 0)
    require_exact(finished.document, "training")


def test_scripted_models_and_losses(tmp_path) -> None:
    finished = run(tmp_path, SCRIPTED, "-q")
    assert not finished.stderr
    document = finished.document
    assert steps_of(document) == [1, 2, 3]
    peak = document["passes"]["training"]["peak"]["by_category"]
    assert peak["parameters"] == (64 * 10 + 10) * 4
    assert peak["optimizer_state"] == 2 * peak["parameters"] + 2 * 4
    require_exact(document, "training")


def test_forwards_of_a_scripted_model_are_counted_after_the_window(tmp_path) -> None:
    finished = run(tmp_path, SCRIPTED_INFERENCE, "-q")
    assert not finished.stderr
    document = finished.document
    assert (steps_of(document), document["notes"]) == ([1, 2, 3], [])
    assert [row["steps"] for row in document["counted_steps"]] == [8 - 3]


def test_optimizers_that_step_in_backward_hooks(tmp_path) -> None:
    finished = run(tmp_path, IN_BACKWARD.format(steps=8, after="del loss"), "-q")
    assert finished.stdout.strip() == "[1, 1, 1, 1]"  # the script's own
    require_exact(finished.document, "training")
    assert steps_of(finished.document) == [1, 2, 3]
    ledger = Ledger(read_recording(finished.recording))
    gradients = [
        ledger.composition(event)[Category.GRADIENTS] for step in ledger.steps for event in range(step.first, step.last)
    ]
    # each goes before the next one comes: never more than the largest, (64, 128), and the bias with which it was made
    assert (64 * 128) * 4 <= max(gradients) <= (64 * 128 + 128) * 4
    assert unattributed(finished.document) == 0


BESIDE = """
import threading, torch
from torch import nn
model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
over = threading.Event()
def train_another():
    other = nn.Linear(64, 64, bias=False)
    its = torch.optim.SGD(other.parameters(), 0.01)
    def step_now(parameter):
        its.step()
        its.zero_grad()
    other.weight.register_post_accumulate_grad_hook(step_now)
    while not over.is_set():
        other(torch.randn(8, 64)).sum().backward()
beside = threading.Thread(target=train_another)
beside.start()
for step in range(16):
    model(torch.randn(64, 256)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
over.set()
beside.join()
"""


AVERAGED = """
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
model = nn.Linear(64, 64)
average = AveragedModel(model)
optimizer = torch.optim.AdamW(model.parameters())
for step in range(6):
    model(torch.randn(8, 64)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    average.update_parameters(model)
"""


@pytest.mark.parametrize("option", [[], ["--all"]], ids=["default", "all"])
def test_a_model_that_is_never_run_takes_memory_too(tmp_path, option: list[str]) -> None:
    document = found(tmp_path, AVERAGED, *option)
    if option:  # in the first step too, that began before there was any model
        cold = document["passes"]["training"]["cold"]["by_category"]
        assert cold["parameters"] == 2 * (64 * 64 + 64) * 4
        assert cold["unattributed"] == 0
    peak = document["passes"]["training"]["peak"]["by_category"]
    assert peak["parameters"] == 2 * (64 * 64 + 64) * 4
    assert peak["buffers"] == 8  # how many models are in the average
    assert unattributed(document) == 0
    assert document["workload"]["name"] == "Linear"
    assert document["workload"]["parameter_count"] == 64 * 64 + 64


NORMED = """
import torch
from torch import nn
normed = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
model = nn.Sequential(normed, nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(6):
    model(torch.randn(16, 8)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
WRAPPED = """
import torch
from torch import nn
from torch.distributed import HashStore, destroy_process_group, init_process_group
init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(6):
    model(torch.randn(16, 8)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        model.module(torch.randn(4, 8))
destroy_process_group()
"""
PARTS_CALLED = """
import torch
from torch import nn
class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(16, 64), nn.Linear(64, 16)
    def forward(self, x):
        return self.decoder(self.encoder(x))
coder = Coder().eval()
with torch.no_grad():
    coder(torch.randn(8, 16))
    for turn in range(7):
        coder.encoder(torch.randn(8, 16))
"""


@pytest.mark.parametrize("option", [[], ["--all"]], ids=["default", "all"])
@pytest.mark.parametrize(
    ("text", "name", "holder", "path"),
    [
        (NORMED, "Sequential", "0.parametrizations.weight", "0.parametrizations.weight.0"),
        (WRAPPED, "DistributedDataParallel", "module.0", "module.1"),
    ],
    ids=["called while it is built", "a part that is called by itself"],
)
def test_a_part_of_a_model_is_no_model(tmp_path, text: str, name: str, holder: str, path: str, option) -> None:
    document = found(tmp_path, text, *option)
    assert document["workload"]["name"] == name
    rows = {row["path"]: row["parameter_bytes"] for row in document["passes"]["training"]["modules"]}
    assert rows.keys() >= {holder, path}
    assert not [row for row in rows if row.startswith(("Sequential", "ParametrizationList"))]
    # the weight, which is 8 x 8; beside it the wrapped one has its bias
    assert rows[holder] == 8 * 8 * 4 + (8 * 4 if text is WRAPPED else 0)


def test_a_part_that_is_called_by_itself_makes_inference_steps(tmp_path) -> None:
    finished = run(tmp_path, PARTS_CALLED, "-q")
    assert finished.document["workload"]["name"] == "Coder"
    assert steps_of(finished.document) == [1, 2, 3]
    assert counted(finished.document) == [("inference", 0, 7, 5)]  # 0, and 4 to 7
    peak = finished.document["passes"]["inference"]["peak"]["by_category"]
    assert peak["inputs"] == 8 * 16 * 4
    assert peak["activations"] == 8 * 64 * 4
    assert peak["unattributed"] == 0


def test_a_model_is_traced_as_it_is(tmp_path) -> None:
    finished = run(tmp_path, TRACED, "-q")
    assert not finished.stderr
    assert finished.stdout == plainly(tmp_path, TRACED).stdout
    # one before, four after, and one in which torch compares what the model and its trace give; tracing itself is none
    assert counted(finished.document) == [("inference", 0, 5, 3)]


def test_hooks_stay_from_one_counted_inference_step_to_the_next(tmp_path) -> None:
    finished = run(tmp_path, HOOKS_COUNTED, "-q")
    assert finished.stdout == "True 0\n"
    assert counted(finished.document) == [("inference", 0, 19, 17)]


STACKED = """
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
models = [nn.Linear(16, 4) for _ in range(3)]
parameters, buffers = stack_module_state(models)
optimizer = torch.optim.SGD(parameters.values(), 0.1)
base = nn.Linear(16, 4, device="meta")
for step in range(6):
    outputs = vmap(lambda p, b, x: functional_call(base, (p, b), (x,)), (0, 0, None))(
        parameters, buffers, torch.randn(8, 16)
    )
    outputs.square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.parametrize("option", [[], ["--all"]], ids=["default", "all"])
def test_models_whose_parameters_were_stacked_are_still_there(tmp_path, option: list[str]) -> None:
    peak = found(tmp_path, STACKED, *option)["passes"]["training"]["peak"]["by_category"]
    # 16 * 4 + 4 numbers of 4 bytes, thrice: in the models, and in what was made of them
    assert peak["parameters"] == 2 * 3 * (16 * 4 + 4) * 4


def test_a_training_on_another_thread_is_left_out_though_its_optimizer_steps_in_hooks(tmp_path) -> None:
    finished = run(tmp_path, BESIDE, "-q")
    assert finished.code == 0, finished.stderr
    assert steps_of(finished.document) == [1, 2, 3]
    peak = finished.document["passes"]["training"]["peak"]["by_category"]
    assert peak["parameters"] == (2 * (256 * 256 + 256) + 64 * 64) * 4  # the other model's are there, and stay
    assert peak["optimizer_state"] == 0


def test_a_window_that_nothing_announced_begins_after_the_next_pass(tmp_path) -> None:
    script = IN_BACKWARD.format(steps=8, after="del loss").replace(
        "for step in", 'model = torch.compile(model, backend="aot_eager")\nfor step in'
    )
    document = found(tmp_path, script)
    assert steps_of(document) == [2, 3]
    assert document["notes"] == ["not recorded, because it began within a backward pass: training step 1"]


def test_a_scope_of_the_scripts_own_tells_as_well_that_the_pass_is_over(tmp_path) -> None:
    script = IN_BACKWARD.format(steps=8, after="with torch.profiler.record_function('end'): pass").replace(
        "for step in", 'model = torch.compile(model, backend="aot_eager")\nfor step in'
    )
    document = found(tmp_path, script)
    assert steps_of(document) == [1, 2, 3]
    assert document["notes"] == []


@pytest.mark.usefixtures("without_coverage")
def test_a_leak_is_named_where_optimizers_step_in_backward_hooks(tmp_path) -> None:
    script = "kept = []\n" + IN_BACKWARD.format(steps=74, after="kept.append(torch.zeros(1000))")
    document = found(tmp_path, script)
    assert document["windows"] > 1
    (row,) = [row for row in document["growth"] if row["bytes_per_step"] == 4000]
    assert "torch.zeros(1000)" in script.splitlines()[row["line"] - 1]


def test_what_is_watched_can_still_be_swapped(tmp_path) -> None:
    assert steps_of(found(tmp_path, SWAPPED)) == [1, 2, 3]


def test_a_lazy_model_that_its_first_step_builds(tmp_path) -> None:
    document = found(tmp_path, LAZY)
    gradients = document["passes"]["training"]["phases"]["optimizer"]["by_category"]["gradients"]
    assert gradients == (16 * 32 + 32 + 32 * 5 + 5) * 4
    assert unattributed(document) == 0


@pytest.mark.parametrize(
    ("steps", "told"),
    [("1:4", [1, 0, 0, 0, 0, 0]), ("0:3", [1, 0, 0, 0, 0, 0]), ("3:6", [0, 0, 1, 0, 0, 0])],
    ids=["from the second on", "from the first on", "later"],
)
def test_gradients_that_stay_are_told_of_in_one_step_only(tmp_path, steps: str, told: list[int]) -> None:
    finished = run(tmp_path, TOLD, "-q", "--steps", steps)
    assert finished.stdout.strip() == str(told)
    require_exact(finished.document, "training")
    ledger = Ledger(read_recording(finished.recording))
    optimizers = ledger.periods.named("optimizer", ledger.steps)
    gradients = [ledger.composition(phase.first - 1)[Category.GRADIENTS] for phase in optimizers]
    assert gradients == [(64 * 10 + 10) * 4] * 3


def test_accumulation_and_amp_inside_a_scope_of_the_scripts_own(tmp_path) -> None:
    document = found(tmp_path, AMP)
    assert steps_of(document) == [1, 2, 3]  # of six: every second batch steps
    assert [row["steps"] for row in document["counted_steps"]] == [3]
    assert unattributed(document) == 0


def test_checkpointing_is_seen_as_recomputation(tmp_path) -> None:
    document = found(tmp_path, CHECKPOINTED)
    assert document["passes"]["training"]["activations"]["recomputed_peak_bytes"] > 0
    assert unattributed(document) == 0


def test_hooks_of_the_scripts_own_on_optimizer_steps_are_part_of_them(tmp_path) -> None:
    document = found(tmp_path, AFTER_STEPS)
    held = document["passes"]["training"]["phases"]["optimizer"]["by_category"]
    # the zeros, what is as large as the parameters, and the factor, which torch makes a tensor of
    assert held["optimizer_temporaries"] == 500_000 * 4 + (64 * 10 + 10) * 4 + 8
    assert unattributed(document) == 0


def test_a_closure_runs_inside_its_optimizers_step(tmp_path) -> None:
    document = found(tmp_path, CLOSURE)
    assert steps_of(document) == [1, 2, 3]
    assert set(document["passes"]["training"]["phases"]) == {"forward", "backward", "optimizer"}
    assert unattributed(document) == 0


def test_what_the_step_before_gave_is_an_input_inside_a_scope_too(tmp_path) -> None:
    document = found(tmp_path, RECURRENT)
    # the peak is the last step's, as 100 numbers more are kept in each; its state came out of the step before
    assert document["passes"]["training"]["peak"]["by_category"]["inputs"] == 64 * 256 * 4


def test_an_input_where_an_output_has_been_is_one(tmp_path) -> None:
    finished = run(tmp_path, SAME_PLACE, "-q")
    assert finished.stdout == "True\n"
    require_exact(finished.document, "training")
    # the peak is the last step's, as 100 numbers more are kept in each: the ones are there too
    assert finished.document["passes"]["training"]["peak"]["by_category"]["inputs"] == 2 * 4096 * 4096 * 4


def test_an_inference_script_is_watched_on_after_a_profiler_of_its_own(tmp_path) -> None:
    document = found(tmp_path, OWN_PROFILER_IN_INFERENCE, name="inference")
    # of the calls 1, 2 and 3 the script's own profiler takes the first, and is there still when the second would begin
    assert [step["index"] for step in document["steps"]] == [3]
    assert document["counted_steps"][0]["last_index"] == 11
    assert any("not recorded, because the script's own torch.profiler" in note for note in document["notes"])


def test_what_a_module_that_trains_gives_out_is_the_next_steps_input(tmp_path) -> None:
    document = found(tmp_path, TRAINER)
    # the state that the trainer was called with, twice: its own loop still holds it, and gives it to the model inside
    assert document["passes"]["training"]["peak"]["by_category"]["inputs"] == 2 * 512 * 512 * 4


@pytest.mark.usefixtures("without_coverage")  # which keeps references of its own
def test_nothing_is_kept_of_batches_that_are_only_looked_at(tmp_path) -> None:
    assert run(tmp_path, LOOKING, "-q").stdout == "True\n"


@pytest.mark.parametrize("between", ["pass", REORDERS], ids=["static", "reordered"])
def test_a_cache_that_the_model_is_given_is_one(tmp_path, between) -> None:
    inference = found(tmp_path, DECODING.format(between=between), name="inference")["passes"]["inference"]
    # keys and values of 512 tokens, 64 numbers each, are older than the window, or made between two steps
    assert inference["activations"]["kv_cache_bytes_at_peak"] >= 2 * 512 * 64 * 4
    assert inference["peak"]["by_category"]["activations"] >= 2 * 512 * 64 * 4
    # but for the numbers by which the script reorders, 512 of 8 bytes, and what arange takes besides
    assert inference["peak"]["by_category"]["unattributed"] <= 2 * 512 * 8


@pytest.mark.parametrize("compiled", ["", 'model = torch.compile(model, backend="eager")'], ids=["plain", "compiled"])
def test_objects_that_only_look_like_caches_and_outputs_harm_nothing(tmp_path, compiled) -> None:
    finished = run(tmp_path, ODD_OBJECTS.format(compiled=compiled), "-q")
    assert (finished.code, finished.stdout, finished.stderr) == (0, "ended\n", "")
    assert steps_of(finished.document) == [1, 2, 3]


def test_gradients_from_elsewhere_are_no_seeds_of_each_step(tmp_path) -> None:
    document = found(tmp_path, FOREIGN_GRADIENTS)
    # one gradient of 1,000 x 1,000 numbers is there when the window begins; those that follow are not the allocator's
    assert document["passes"]["training"]["peak"]["by_category"]["gradients"] == 1000 * 1000 * 4
    require_exact(document, "training")


def test_generation_names_its_cache(tmp_path) -> None:
    document = found(tmp_path, GENERATE, "--steps", "0:8", name="inference")
    # Made by generate() itself between the forwards, and so nobody's, at the peak of the 8th token, when 15 are there
    # (operator: bytes): the script's prompt (randint: 2 * 8 * 8), the numbers of three special tokens (empty: 3 * 8),
    # whether padding ends a text (gt: 1), the tokens so far and their mask (cat: 2 * 2 * 15 * 8), which texts go on
    # (bitwise_and: 2 * 8), their newest tokens (add: 2 * 8), the last token's scores (_to_copy: 2 * 200 * 4) and those
    # with the end forbidden (where: 2 * 200 * 4)
    assert unattributed(document, "inference") == 128 + 24 + 1 + 480 + 16 + 16 + 3200
    # the first step reads all 8 tokens of the prompt at once
    assert document["passes"]["inference"]["cold"]["peak_bytes"] == document["steps"][0]["peak_bytes"]
    # after 15 of 16 tokens: keys and values, 2 layers, 2 sequences, 64 numbers of 4 bytes; the largest cat holds both
    activations = document["passes"]["inference"]["activations"]
    assert activations["kv_cache_bytes_at_peak"] >= 2 * 2 * 2 * 64 * 4 * 14


def test_the_scripts_own_profiler_is_left_alone(tmp_path) -> None:
    finished = run(tmp_path, FOREIGN, "-q")
    assert finished.stdout == "[('aten::addmm', 4)]\n"  # two linear layers, two steps
    assert steps_of(finished.document) == [1]
    assert not finished.document["complete"]
    assert "torch.profiler was running: training step 2, training step 3" in finished.document["notes"][-1]
    require_exact(finished.document, "training")


def test_a_profiler_that_the_script_only_makes_is_in_nobodys_way(tmp_path) -> None:
    assert steps_of(found(tmp_path, IDLE_PROFILER)) == [1, 2, 3]


def test_steps_end_after_a_forward_in_which_something_was_compiled(tmp_path) -> None:
    assert steps_of(found(tmp_path, COMPILED_LATE)) == [1, 2, 3]


def test_a_loss_belongs_to_the_students_forward_though_a_teacher_came_between(tmp_path) -> None:
    document = found(tmp_path, TEACHER)
    assert unattributed(document) == 0
    # of `goal > 0` as bools and as numbers, what autograd keeps for the product is there when backward begins
    assert document["passes"]["training"]["activations"]["retained_bytes"] > 3 * 32 * 64 * 4


@pytest.fixture
def without_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring coverage takes a trace function, and a script that has one keeps it: then there are no lines."""
    for name in os.environ.keys() - unmeasured().keys():
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("without_coverage")
def test_a_leak_is_named_with_its_line(tmp_path) -> None:
    document = found(tmp_path, LEAK)
    assert document["windows"] > 1
    assert steps_of(document)[:3] == [1, 2, 3]
    (row,) = [row for row in document["growth"] if row["bytes_per_step"] == 4000]
    lines = (tmp_path / "script.py").read_text().splitlines()
    assert "torch.zeros(1000" in lines[row["line"] - 1]
    assert row["file"].endswith("script.py")


def test_no_window_opens_for_a_leak_when_told_so(tmp_path) -> None:
    document = found(tmp_path, LEAK, "--no-rearm")
    assert document["windows"] == 1


def test_everything_from_the_import_on(tmp_path) -> None:
    document = found(tmp_path, TRAINING + "for step, loss in train(3): pass\n", "--all")
    assert steps_of(document) == [0, 1, 2]
    # what was born in step 0, the model included, is what all later levels rest on
    assert document["steps"][0]["retained_growth_bytes"] >= 4 * 19210


CRITERION = TRAINING.replace("nn.functional.cross_entropy(", "nn.CrossEntropyLoss()(")


@pytest.mark.parametrize("text", [TRAINING, CRITERION])
def test_labels_that_only_the_loss_takes_are_inputs(tmp_path, text: str) -> None:
    document = found(tmp_path, text + "for step, loss in train(4): pass\n")
    peak = document["passes"]["training"]["peak"]["by_category"]
    assert peak["inputs"] == 32 * 64 * 4 + 32 * 8  # what the model takes, and 32 labels
    assert peak["unattributed"] == 0


ODD_TARGETS = (
    TRAINING
    + """
class Odd(dict):
    def __iter__(self): raise KeyError("a mapping of the script's own")
    def __len__(self): raise KeyError("and it is never asked")
class Loose(nn.Module):
    def forward(self, outputs, *rest): return outputs.sum()
class Strict(nn.CrossEntropyLoss):
    def forward(self, outputs, target=None): return outputs.sum()
frozen = nn.Linear(64, 10)
for step in range(4):
    inputs = torch.randn(32, 64)
    outputs = model(inputs)
    with torch.no_grad():
        soft = frozen(inputs)
    endless = [1]
    endless.append(endless)
    parts = (outputs * 1).chunk(2)
    parts[0].detach().add_(1)
    for target in (Odd(), endless, model[0].weight, parts[0], None):
        Strict()(outputs, target=target)
        Loose()(outputs, target)
    loss = nn.MSELoss()(outputs, soft.detach()) + nn.MSELoss()(outputs, target=outputs.detach())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("done")
"""
)


def test_what_is_no_target_stays_what_it_is(tmp_path) -> None:
    """A loss may be given anything at all: what a model gave stays an activation, a weight a parameter."""
    peak = found(tmp_path, ODD_TARGETS)["passes"]["training"]["peak"]["by_category"]
    assert peak["inputs"] == 32 * 64 * 4
    # (64 * 256 + 256 + 256 * 10 + 10) of the model, (64 * 10 + 10) of the frozen one
    assert peak["parameters"] == 4 * (19210 + 650)


CACHE = (
    TRAINING
    + """
cache = {}
for step, loss in train(30):
    cache[step] = torch.zeros(50, 100)
"""
)
WORKERS = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
model = nn.Linear(64, 10)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for inputs, labels in DataLoader(TensorDataset(torch.randn(90, 64), torch.arange(90) % 10), 9, num_workers=2):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), labels).backward()
    optimizer.step()
"""


@pytest.mark.usefixtures("without_coverage")
def test_a_growing_cache_is_named_with_its_line(tmp_path) -> None:
    document = found(tmp_path, CACHE)
    (row,) = [row for row in document["growth"] if row["bytes_per_step"] == 50 * 100 * 4]
    assert row["line"] > 0
    assert "torch.zeros(50, 100)" in (tmp_path / "script.py").read_text().splitlines()[row["line"] - 1]


SHARING = "torch.multiprocessing.set_sharing_strategy({!r})\n"


@pytest.mark.parametrize(("strategy", "header"), [("file_descriptor", 0), ("file_system", 64)])
def test_the_steps_that_were_asked_for_and_the_loaders_workers(tmp_path, strategy: str, header: int) -> None:
    text = WORKERS.replace("model =", SHARING.format(strategy) + "model =", 1)
    document = found(tmp_path, text, "--steps", "5:8")
    peak = document["passes"]["training"]["peak"]["by_category"]
    # batches lie in memory shared with the workers: 9 rows of 64 numbers, 9 labels of 8 bytes, each with torch's own
    # header; at the peak the one before, the one in use, and perhaps further ones that came early
    batch = 9 * 64 * 4 + 9 * 8 + 2 * header
    assert peak["inputs"] in {2 * batch, 3 * batch, 4 * batch}
    assert peak["unattributed"] == 0
    assert steps_of(document) == [5, 6, 7]
    assert len(document["children"]) >= 2
    assert all(child["rss_peak_bytes"] > 0 for child in document["children"])


def test_a_forward_that_follows_the_clearing_of_gradients_counts_none(tmp_path: Any) -> None:
    finished = run(tmp_path, CLEARS_FIRST)
    assert finished.code == 0, finished.stderr
    forward = finished.document["passes"]["training"]["phases"]["forward"]
    # parameters 4 (256 x 256 + 256 + 256 x 10 + 10); inputs 4 (4 x 256) and labels 4 x 8; the hidden layer before and
    # after its ReLU, 4 (4 x 256) each; and 4 of the loss of the step before, which the script still has
    assert forward["peak_bytes"] == 273_448 + 4_128 + 8_192 + 4
    assert forward["by_category"]["gradients"] == 0
