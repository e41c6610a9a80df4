import subprocess
import sys

import pytest

from adapters.styles import STYLES, Preset
from serving.sampling import SamplingParams

PRESET = Preset(temperature=0.7, top_p=0.9, min_new_tokens=6, max_new_tokens=40)


def test_a_preset_gives_its_settings():
    params = SamplingParams.from_preset(PRESET, seed=3)

    assert params == SamplingParams(
        temperature=0.7, top_p=0.9, top_k=0, min_new_tokens=6, max_new_tokens=40, seed=3, stop=()
    )


def test_what_no_preset_knows_is_taken_from_the_request():
    params = SamplingParams.from_preset(PRESET, seed=3, top_k=20, stop=("\n\n", "User:"))

    assert (params.top_k, params.stop) == (20, ("\n\n", "User:"))


@pytest.mark.parametrize(
    "preset",
    [
        Preset(0.0, 0.9, 0, 8),
        Preset(0.7, 0.9, 0, 8, do_sample=False),
        Preset(0.0, 0.9, 0, 8, do_sample=False),
    ],
)
def test_a_preset_that_does_not_sample_has_temperature_zero(preset):
    assert SamplingParams.from_preset(preset).temperature == 0


@pytest.mark.parametrize("style", STYLES)
def test_the_styles_of_the_project_keep_their_presets(style):
    params = SamplingParams.from_preset(style.preset)

    wanted = style.preset
    assert (params.temperature, params.top_p) == (wanted.temperature, wanted.top_p)
    assert (params.min_new_tokens, params.max_new_tokens) == (
        wanted.min_new_tokens,
        wanted.max_new_tokens,
    )


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_a_seed_is_kept_and_zero_is_one(seed):
    assert SamplingParams.from_preset(PRESET, seed=seed).seed == seed


@pytest.mark.parametrize("make", [SamplingParams, lambda: SamplingParams.from_preset(PRESET)])
def test_without_a_seed_everyone_gets_one_of_their_own_that_fits_64_signed_bits(make):
    seeds = [make().seed for _ in range(100)]

    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) >= 2**60  # no small ones, which would soon repeat


def test_nothing_set_means_greedy_without_limits():
    params = SamplingParams()

    assert (params.temperature, params.top_p, params.top_k) == (0, 1, 0)
    assert (params.min_new_tokens, params.stop, params.suppressed_ids) == (0, (), ())


def test_settings_need_no_torch():
    code = "import sys, serving.sampling; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
