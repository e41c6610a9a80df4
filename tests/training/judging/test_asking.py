import dataclasses

import pytest
from tqdm.auto import tqdm

from adapters.styles import TERSE, Preset
from serving.config import EngineConfig
from serving.loader import load
from training.judging.asking import Respondent

SURE = Preset(temperature=0.0, top_p=1.0, min_new_tokens=0, max_new_tokens=8)


@pytest.mark.slow
def test_the_answers_to_one_prompt_stand_together_one_a_seed(tiny_adapter):
    config = EngineConfig(adapter=tiny_adapter, device="cpu", quantization="none")
    greedy = dataclasses.replace(TERSE, preset=SURE)
    with tqdm(disable=True) as bar:
        respondent = Respondent(load(config), config, bar)

        answers = respondent.ask_seeds(["What is a queue?", "Why wait?"], greedy, (1, 2, 3))

    ids = [[output.ids for output in group] for group in answers]
    assert [len(group) for group in ids] == [3, 3]
    # nothing is left to chance, so that only the prompt makes a difference
    assert ids[0] == [ids[0][0]] * 3
    assert ids[0][0] != ids[1][0]
