"""Ollama's templates. What they should be was run through Go's own text/template once."""

import pytest
from jinja2 import Environment, TemplateError

from adapters.prompts import DEFAULT_CHAT_TEMPLATE
from training.shipping.ollama_template import find_turns, ollama_template

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% set ns = namespace(system='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{% set ns.system = '<<SYS>>\n' + message['content'] + '\n<</SYS>>\n\n' %}"
    "{% elif message['role'] == 'user' %}[INST] {{ ns.system + message['content'] }} [/INST]"
    "{% set ns.system = '' %}{% else %} {{ message['content'] }} </s>{% endif %}{% endfor %}"
)
NUMBERING = "{% for message in messages %}{{ loop.index }}: {{ message['content'] }}\n{% endfor %}"
FORGETFUL = "{{ messages[-1]['content'] }}"
SHOUTING = "{% for message in messages %}{{ message['content'] }}{{ loop.length }}{% endfor %}"


def turns_of(chat_template):
    environment = Environment(autoescape=False)
    environment.globals["raise_exception"] = refuse
    template = environment.from_string(chat_template)
    return find_turns(
        lambda messages: template.render(
            messages=messages, add_generation_prompt=True, bos_token="", eos_token="</s>"
        )
    )


def refuse(message):
    raise TemplateError(message)


def test_mistrals_turns_are_found():
    turns = turns_of(DEFAULT_CHAT_TEMPLATE)

    assert (turns.opening, turns.closing, turns.answering) == ("[INST] ", " [/INST]", "")
    assert turns.following == "</s>[INST] "
    assert turns.system is None


def test_a_system_message_is_found_inside_the_first_user_message():
    turns = turns_of(LLAMA_2)

    assert turns.system == ("[INST] <<SYS>>\n", "\n<</SYS>>\n\n")
    assert (turns.opening, turns.closing) == ("[INST] ", " [/INST]")
    assert (turns.answering, turns.following) == (" ", " </s>[INST] ")


@pytest.mark.parametrize("chat_template", [NUMBERING, FORGETFUL, SHOUTING])
def test_a_template_that_does_more_than_frame_messages_is_refused(chat_template):
    with pytest.raises(ValueError, match="the chat template"):
        turns_of(chat_template)


def test_the_go_template_for_mistral():
    template = ollama_template(turns_of(DEFAULT_CHAT_TEMPLATE), "<STYLE_TERSE>")

    assert template == (
        '{{ range $i, $_ := .Messages }}{{ if eq .Role "system" }}[INST] '
        '{{ else if eq .Role "user" }}{{ if eq $i 0 }}[INST] '
        '{{ else if and (eq $i 1) (eq (index $.Messages 0).Role "system") }}'
        "{{ else }}</s>[INST] {{ end }}"
        "{{ if eq (len (slice $.Messages $i)) 1 }}<STYLE_TERSE>\n{{ end }}{{ .Content }} [/INST]"
        "{{ else }}{{ .Content }}{{ end }}{{ end }}"
    )


def test_the_go_template_for_chatml():
    template = ollama_template(turns_of(CHATML), "<STYLE_VERBOSE>")

    assert template == (
        '{{ range $i, $_ := .Messages }}{{ if eq .Role "system" }}'
        "<|im_start|>system\n{{ .Content }}<|im_end|>\n<|im_start|>user\n"
        '{{ else if eq .Role "user" }}{{ if eq $i 0 }}<|im_start|>user\n'
        '{{ else if and (eq $i 1) (eq (index $.Messages 0).Role "system") }}'
        "{{ else }}<|im_end|>\n<|im_start|>user\n{{ end }}"
        "{{ if eq (len (slice $.Messages $i)) 1 }}<STYLE_VERBOSE>\n{{ end }}{{ .Content }}"
        "<|im_end|>\n<|im_start|>assistant\n{{ else }}{{ .Content }}{{ end }}{{ end }}"
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [('say """hi"""', '{{ "say \\"\\"\\"hi\\"\\"\\"" }}'), ("{{x}}", '{{ "{{x}}" }}')],
)
def test_what_go_or_a_modelfile_would_read_is_quoted(text, written):
    chat_template = "{% for message in messages %}{{ start + message['content'] }}{% endfor %}"
    template = Environment(autoescape=False).from_string(chat_template)
    turns = find_turns(lambda messages: template.render(messages=messages, start=text))

    assert f"{{{{ if eq $i 0 }}}}{written}{{{{ else" in ollama_template(turns, "<T>")
