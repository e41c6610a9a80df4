"""What the shipped profiles say of memory and time at their head."""

import re

import pytest

from adapters.prompts import PromptFormat
from tests.training.conftest import ROOT, check_golden_values
from tests.training.shapes import MISTRAL_7B, TINYLLAMA
from training.compose import POCKET_FOLDER
from training.config_file import load_config
from training.resources.duration import estimate_seconds
from training.resources.plan import choose_plan, describe_checkpointing, row_lengths
from training.style_tokens import prepare_tokenizer

PROFILES = sorted((ROOT / "training" / "configs").glob("*.yaml"))
SHAPES = {
    "mistralai/Mistral-7B-v0.3": MISTRAL_7B,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": TINYLLAMA,
}
GB = 10**9

pytestmark = pytest.mark.usefixtures("in_root")


def head_of(path):
    lines = [line for line in path.read_text().splitlines() if line.startswith("#")]
    return " ".join(line.removeprefix("#").strip() for line in lines)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_tells_memory_and_time_and_where_they_come_from(path):
    memory, time = re.split(r"\bTime: ", head_of(path).split("Memory: ")[1])

    assert re.match(r"[\d.]+ GB, (measured|estimated by `training doctor`)", memory)
    assert re.search("measured|estimated", time)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("memory-constrained", "adamw_8bit"),
        ("mistral-7b-16gb", "adamw_8bit"),
        ("mistral-7b-24gb", "adamw_8bit"),
        ("tinyllama-1.1b", "adamw_torch"),
    ],
)
def test_a_profile_of_a_card_keeps_the_golden_values_and_plans_by_memory(name, optimizer):
    config = load_config(ROOT / "training/configs" / f"{name}.yaml")

    check_golden_values(config, optimizer)
    assert (config.micro_batch_size, config.gradient_checkpointing) == (0, "auto")
    assert config.memory_gb > 0


def test_the_mac_profile_needs_no_4_bit_weights():
    config = load_config(ROOT / "training/configs/mac.yaml")

    assert (config.device, config.quantization) == ("mps", "none")


@pytest.fixture(scope="module")
def lengths(tmp_path_factory):
    """Tokens of the bundled rows, by the bundled tokenizer: others differ by a few percent."""
    from training.dataset.load import load_examples

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = load_config(ROOT / "training/configs/pocket.yaml")
        folder = tmp_path_factory.mktemp("tokenizer")
        prepare_tokenizer(POCKET_FOLDER, config.styles, folder)
        examples = load_examples(config, PromptFormat.from_folder(folder))
    return row_lengths(examples.train, "sft")


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in PROFILES if path.stem != "pocket"], ids=lambda path: path.stem
)
def test_the_memory_and_time_that_a_profile_tells_are_todays_estimates(path, lengths):
    config = load_config(path)
    shape = SHAPES[config.base_model]
    head = head_of(path)

    plan = choose_plan(shape, config, lengths, 32 * GB)

    assert f"Memory: {plan.estimate.total / GB:.1f} GB, estimated by" in head
    if "checkpointed" in head:
        assert describe_checkpointing(plan, shape.num_layers) in head
    for seconds in re.findall(r"for an H200: (\d+) s", head):
        estimated = estimate_seconds(shape, config, lengths, plan, gpu="NVIDIA H200")
        assert round(estimated) == int(seconds)
