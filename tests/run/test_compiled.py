"""Scripts that compile: what is compiled stays as it is, and calls of it are seen from outside."""

import json
import re
from typing import Any

import pytest
from tests.run.scripts import plainly, require_exact, run

NETWORK = """
import copy, io, sys, torch
from torch import nn
from torch.nn.functional import cross_entropy, gelu
BACKEND = {"backend": "aot_eager"}
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Linear(64, 256), nn.Linear(256, 64)
    def forward(self, x):
        return x + self.narrow(gelu(self.wide(x)))
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(1000, 64), nn.Linear(64, 1000)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
    def forward(self, ids):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)
class Holder:
    def __init__(self, model):
        self.model = model
    @torch.compile(**BACKEND)
    def run(self, ids):
        return self.model(ids)
def loss_of(call):
    ids, labels = torch.randint(1000, (8, 32)), torch.randint(1000, (8, 32))
    return cross_entropy(call(ids).flatten(0, 1), labels.flatten())
def compile_blocks(model):
    for block in model.blocks:
        block.compile(**BACKEND)
    return model
def replace_blocks(model):
    for number, block in enumerate(model.blocks):
        model.blocks[number] = torch.compile(block, **BACKEND)
    return model
def compile_forward(model):
    model.forward = torch.compile(model.forward, **BACKEND)
    return model
def compile_in_place(model):
    model.compile(**BACKEND)
    return model
def compile_class(model):
    Block.forward = torch.compile(Block.forward, **BACKEND)
    return model
def compile_twice(model):
    return torch.compile(compile_blocks(model), **BACKEND)
FORMS = {
    "whole": lambda model: torch.compile(model, **BACKEND),
    "in place": compile_in_place,
    "blocks in place": compile_blocks,
    "blocks replaced": replace_blocks,
    "a function": lambda model: torch.compile(lambda ids: model(ids), **BACKEND),
    "a method": lambda model: Holder(model).run,
    "its forward": compile_forward,
    "blocks and whole": compile_twice,
    "blocks of a class": compile_class,
}
def train(form):
    torch.manual_seed(0)
    model = Net()
    call = FORMS[form](model)
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(6):
        loss = loss_of(call)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()
def infer(form):
    torch.manual_seed(0)
    model = Net().eval()
    call = FORMS[form](model)
    for step in range(6):
        with torch.no_grad():
            output = call(torch.randint(1000, (8, 32)))
    return output.sum().item()
def counted():
    from torch._dynamo.utils import counters
    return [sorted(counters[name].items()) for name in ("stats", "frames", "graph_break")]
"""
ONE_BY_ONE = (
    NETWORK
    + """
import json
plain, told = Block.forward, {}
for kind, form in json.loads(sys.argv[1]):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    Block.forward = plain
    result = {"train": train, "infer": infer}[kind](form)
    told[f"{kind} {form}"] = [result, counted()]
print(json.dumps(told))
"""
)
# 1000 x 64, three times 64 x 256 + 256 and 256 x 64 + 64, and 64 x 1000 + 1000 numbers of 4 bytes
PARAMETERS = 4 * (64_000 + 3 * (16_640 + 16_448) + 65_000)
IDS = 8 * 32 * 8
TRAINED = [
    "in place",
    "blocks in place",
    "blocks replaced",
    "a function",
    "a method",
    "its forward",
    "blocks and whole",
    "blocks of a class",
]
INFERRED = ["whole", "blocks replaced", "a function", "blocks of a class"]
CASES = [*(("train", form) for form in TRAINED), *(("infer", form) for form in INFERRED)]


@pytest.fixture(scope="module")
def without_us(tmp_path_factory) -> Any:
    """What every form gives and compiles where nobody watches."""
    folder = tmp_path_factory.mktemp("plainly")
    return json.loads(plainly(folder, ONE_BY_ONE, json.dumps(CASES)).stdout)


@pytest.mark.parametrize(("kind", "form"), CASES, ids=[" ".join(case) for case in CASES])
def test_a_compiled_model_is_seen_from_outside_and_stays_as_it_is(tmp_path, without_us, kind: str, form: str) -> None:
    text = NETWORK + f"import json\nprint(json.dumps([{kind}({form!r}), counted()]))\n"
    finished = run(tmp_path, text, "-q")
    assert json.loads(finished.stdout) == without_us[f"{kind} {form}"]
    name = {"train": "training", "infer": "inference"}[kind]
    require_exact(finished.document, name)
    found = finished.document["passes"][name]
    assert [step["index"] for step in finished.document["steps"]] == [1, 2, 3]
    assert finished.document["notes"] == []
    phases = {"train": {"forward", "backward", "optimizer"}, "infer": {"forward"}}[kind]
    assert set(found["phases"]) == phases
    held = found["peak"]["by_category"]
    assert held["parameters"] == PARAMETERS
    assert held["inputs"] == IDS  # the labels are gone when the gradient of the loss is there
    assert held["unattributed"] == 0


def test_compiled_blocks_are_told_apart(tmp_path) -> None:
    finished = run(tmp_path, NETWORK + "train('blocks in place')", "-q")
    modules = {row["path"]: row for row in finished.document["passes"]["training"]["modules"]}
    # what the embedding gives out, the two tables of the loss, and its value and weight
    assert modules[""]["retained_bytes"] == 8 * 32 * 64 * 4 + 8 * 32 * 1000 * 4 + 8
    # of each block the input of its second layer and of its activation function, and the sum it gives out
    assert modules["blocks.1"]["retained_bytes"] == 8 * 32 * (256 + 256 + 64) * 4
    assert modules["blocks.1.wide"]["retained_bytes"] == 0


def test_a_function_that_runs_no_module_leaves_all_others_told_apart(tmp_path) -> None:
    text = """
scaled = torch.compile(lambda x: 2 * x, **BACKEND)
FORMS["scaled"] = lambda model: lambda ids: scaled(model(ids))
train("scaled")
"""
    finished = run(tmp_path, NETWORK + text, "-q")
    modules = {row["path"]: row for row in finished.document["passes"]["training"]["modules"]}
    assert modules["blocks.1.wide"]["retained_bytes"] == 8 * 32 * 256 * 4


STEPS = """
torch.manual_seed(0)
model = Net()
optimizer = torch.optim.AdamW(model.parameters())
def train_step():
    loss_of(model).backward()
    optimizer.step()
    optimizer.zero_grad()
{definition}
for number in range(6):
    train_step()
"""
OPTIMIZERS = {
    "its step": "optimizer.step = torch.compile(optimizer.step, **BACKEND)",
    "a function": """
compiled = torch.compile(lambda: optimizer.step(), **BACKEND)
def train_step():
    loss_of(model).backward()
    compiled()
    optimizer.zero_grad()
""",
    "a whole step": "train_step = torch.compile(train_step, **BACKEND)",
}


def untimed(log: str) -> str:
    """What torch says, without when and in which process."""
    return re.sub(r"^([IWE])\d+ [\d:.]+ \d+ ", r"\1 ", log, flags=re.MULTILINE)


@pytest.mark.parametrize("form", OPTIMIZERS)
def test_an_optimizer_whose_step_is_compiled_ends_steps(tmp_path, form: str) -> None:
    text = NETWORK + STEPS.format(definition=OPTIMIZERS[form]) + "print(counted()[::2], model.head.bias.sum().item())"
    finished = run(tmp_path, text, "-q")
    assert finished.code == 0, finished.stderr
    without_us = plainly(tmp_path, text)
    assert finished.stdout == without_us.stdout  # the same graphs, though steps and backward passes have our hooks
    assert untimed(finished.stderr) == untimed(without_us.stderr)
    require_exact(finished.document, "training")
    assert [step["index"] for step in finished.document["steps"]] == [1, 2, 3]
    assert sum(row["steps"] for row in finished.document["counted_steps"]) == 3
    phases = finished.document["passes"]["training"]["phases"]
    assert set(phases) == {"forward", "backward", "optimizer"}
    held = phases["optimizer"]["by_category"]
    assert held["parameters"] == PARAMETERS
    # two copies of every parameter, and a counter of 4 bytes for each of the 15 tensors
    assert held["optimizer_state"] == 2 * PARAMETERS + 15 * 4
    assert held["optimizer_temporaries"] > 0
    assert held["unattributed"] <= 2 * IDS  # what a whole step makes within itself is not given to it


def test_a_function_that_could_step_an_optimizer_and_does_not_ends_no_step(tmp_path) -> None:
    text = """
class Trainer:
    def __init__(self):
        self.model = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.forward = torch.compile(self.compute, **BACKEND)
    def compute(self, ids):
        return self.model(ids)
trainer = Trainer()
for step in range(6):
    loss_of(trainer.forward).backward()
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
"""
    finished = run(tmp_path, NETWORK + text, "-q")
    require_exact(finished.document, "training")
    assert [step["index"] for step in finished.document["steps"]] == [1, 2, 3]
    assert sum(row["steps"] for row in finished.document["counted_steps"]) == 3
    found = finished.document["passes"]["training"]
    assert set(found["phases"]) == {"forward", "backward", "optimizer"}
    assert found["peak"]["by_category"]["unattributed"] == 0


def test_copies_and_files_of_a_watched_model_are_free_of_hooks(tmp_path) -> None:
    text = """
model = Net()
optimizer = torch.optim.AdamW(model.parameters())
call = compile_blocks(model)
hooks = []
for step in range(6):
    loss_of(call).backward()
    optimizer.step()
    optimizer.zero_grad()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        twin(torch.randint(1000, (8, 32)))
        hooks += [type(hook).__module__ for part in twin.modules() for hook in part._forward_hooks.values()]
print(sorted(set(hooks)))
"""
    finished = run(tmp_path, NETWORK + text, "-q")
    assert finished.stdout == "['builtins', 'functools']\n", finished.stderr  # that do nothing
    require_exact(finished.document, "training")


def test_an_eager_model_beside_a_compiled_one_is_there(tmp_path) -> None:
    text = """
torch.manual_seed(0)
teacher, student = Net().requires_grad_(False), Net()
optimizer = torch.optim.AdamW(student.parameters())
call = torch.compile(student, **BACKEND)
for step in range(6):
    ids = torch.randint(1000, (8, 32))
    with torch.no_grad():
        goal = teacher(ids)
    (call(ids) - goal).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    finished = run(tmp_path, NETWORK + text, "-q")
    require_exact(finished.document, "training")
    held = finished.document["passes"]["training"]["peak"]["by_category"]
    assert (held["parameters"], held["inputs"], held["unattributed"]) == (2 * PARAMETERS, IDS, 0)
    assert finished.document["workload"]["parameter_count"] == 2 * PARAMETERS // 4


def test_what_is_compiled_within_the_window_adds_no_backward_pass(tmp_path) -> None:
    text = """
torch.manual_seed(0)
model = Net()
optimizer = torch.optim.AdamW(model.parameters())
for step in range(6):
    if step == 2:
        compile_blocks(model)
    loss_of(model).backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    finished = run(tmp_path, NETWORK + text, "-q")
    require_exact(finished.document, "training")
    assert [step["index"] for step in finished.document["steps"]] == [1, 2, 3]
    assert finished.document["notes"] == []


ODD = {
    "a global that comes later": """
@torch.compile(fullgraph=True, **BACKEND)
def call(ids):
    return model(ids)
model = Net()
optimizer = torch.optim.AdamW(model.parameters())
def train_step():
    loss_of(call).backward()
    optimizer.step()
    optimizer.zero_grad()
""",
    "all as arguments": """
model = Net()
optimizer = torch.optim.AdamW(model.parameters())
def step(model, optimizer):
    loss_of(model).backward()
    optimizer.step()
    optimizer.zero_grad()
compiled = torch.compile(step, **BACKEND)
def train_step():
    compiled(model, optimizer)
""",
    "weights are clipped": """
class Trainer:
    def __init__(self):
        self.model = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.clipped = torch.compile(self.clip, **BACKEND)
    def clip(self):
        with torch.no_grad():
            self.model.head.weight.clamp_(-1, 1)
trainer = Trainer()
def train_step():
    loss_of(trainer.model).backward()
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    trainer.clipped()
""",
}


@pytest.mark.parametrize("form", ODD)
def test_steps_are_counted_once_and_nothing_breaks(tmp_path, form: str) -> None:
    text = NETWORK + "torch.manual_seed(0)\n" + ODD[form] + "for number in range(6):\n    train_step()\n"
    finished = run(tmp_path, text, "-q")
    assert finished.code == 0, finished.stderr
    require_exact(finished.document, "training")
    assert [step["index"] for step in finished.document["steps"]] == [1, 2, 3]
    assert sum(row["steps"] for row in finished.document["counted_steps"]) == 3
    assert finished.document["passes"]["training"]["peak"]["by_category"]["parameters"] == PARAMETERS
