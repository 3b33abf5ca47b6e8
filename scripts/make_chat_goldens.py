#!/usr/bin/env python3
"""Makes tests/golden/chat.json: chat templates and what transformers' apply_chat_template makes of conversations with them.

The templates are short ones that give the texts which the models' own give; what they are recognised by is the same.

Needs transformers, tokenizers and jinja2. Usage: scripts/make_chat_goldens.py
"""
import json
from pathlib import Path

import tokenizers
import transformers

PATH = Path(__file__).parent.parent / "tests" / "golden" / "chat.json"

ROLES = "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
FIRST = ("{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
         "{% else %}{% set rest = messages %}{% endif %}")
CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
SYSTEM = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful, 3-word assistant.<|im_end|>\\n' }}{% endif %}"
THINKING = ("{% for m in messages %}{% set content = m['content'] %}{% if m['role'] == 'assistant' %}"
            "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
            "{{ '<|im_start|>' + m['role'] + '\\n' + content + '<|im_end|>\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
LLAMA3 = ("{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim"
          " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}{{ content }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
LLAMA31 = ('{{- bos_token }}{% set date_string = "26 Jul 2024" %}{% set system = "" %}{% set rest = messages %}'
           "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}{% set rest = messages[1:] %}{% endif %}"
           '{{- "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: " + date_string + "\n\n" + system + "<|eot_id|>" }}'
           "{% for m in rest %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
           "{% if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
LLAMA2 = (FIRST + "{% for m in rest %}" + ROLES +
          "{% set content = m['content'] %}{% if loop.first and system is defined %}"
          "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + content %}{% endif %}"
          "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
          "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
MISTRAL = ("{{ bos_token }}{% for m in messages %}" + ROLES +
           "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token"
           "SPACE }}{% else %}{{ raise_exception('no other roles') }}{% endif %}{% endfor %}")
MISTRAL_V1 = (FIRST + "{{ bos_token }}{% for m in rest %}" + ROLES +
              "{% if m['role'] == 'user' %}{% if loop.first and system is defined %}"
              "{{ ' [INST] ' + system + '\n\n' + m['content'] + ' [/INST]' }}{% else %}{{ ' [INST] ' + m['content'] + ' [/INST]' }}{% endif %}"
              "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}")
MISTRAL_V3 = (FIRST + "{{ bos_token }}{% for m in rest %}" + ROLES +
              "{% if m['role'] == 'user' %}{% if loop.last and system is defined %}"
              '{{ "[INST] " + system + "\n\n" + m["content"] + "[/INST]" }}{% else %}{{ "[INST] " + m["content"] + "[/INST]" }}{% endif %}'
              '{% else %}{{ " " + m["content"]|trim + eos_token }}{% endif %}{% endfor %}')
TEKKEN = MISTRAL_V3.replace('"[INST] "', '"[INST]"').replace('" " + m["content"]|trim', 'm["content"]')
GEMMA = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
         "{% for m in messages %}" + ROLES + "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
         "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}")
GEMMA3 = ("{{ bos_token }}" + FIRST + "{% set first_user_prefix = system + '\n\n' if system is defined else '' %}"
          "{% for m in rest %}" + ROLES + "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
          "{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}{{ m['content'] | trim }}{{ '<end_of_turn>\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}")
ZEPHYR = ("{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] + eos_token }}\n{% elif m['role'] == 'system' %}\n"
          "{{ '<|system|>\n' + m['content'] + eos_token }}\n{% else %}\n{{ '<|assistant|>\n' + m['content'] + eos_token }}\n{% endif %}\n"
          "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")

TEMPLATES = [  # name, what recognises it, template, tokens
    ("chatml", CHATML, "<|im_start|>", "<|im_end|>"),
    ("chatml", "{{ bos_token }}" + CHATML, "<s>", "</s>"),
    ("chatml", SYSTEM + CHATML, None, "<|im_end|>"),
    ("chatml", SYSTEM.replace("\\n", "\n") + CHATML, None, "<|im_end|>"),
    ("chatml", THINKING, None, "<|im_end|>"),
    ("llama-3", LLAMA3, "<|begin_of_text|>", "<|end_of_text|>"),
    ("llama-3.1", LLAMA31, "<|begin_of_text|>", "<|eot_id|>"),
    ("llama-2", LLAMA2, "<s>", "</s>"),
    ("mistral", MISTRAL.replace("SPACE", ""), "<s>", "</s>"),
    ("mistral-spaced", MISTRAL.replace("SPACE", " + ' '"), "<s>", "</s>"),
    ("mistral-v1", MISTRAL_V1, "<s>", "</s>"),
    ("mistral-v3", MISTRAL_V3, "<s>", "</s>"),
    ("mistral-v3-tekken", TEKKEN, "<s>", "</s>"),
    ("gemma", GEMMA, "<bos>", "<eos>"),
    ("gemma-3", GEMMA3, "<bos>", "<eos>"),
    ("zephyr", ZEPHYR, "<s>", "</s>"),
]


def m(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = [
    [m("user", "Hello")],
    [m("system", "Be brief."), m("user", "  Grüße,\n\nwas ist 2 + 2? \n")],
    [m("user", "Hello"), m("assistant", "  Hi there. "), m("user", "Who are you? ")],
    [m("system", " You are\na robot. "), m("user", " One"), m("assistant", "<think>\nhm\n</think>\n\nTwo"), m("user", "Three"),
     m("assistant", "Four\n"), m("user", "")],
]


def tokenizer_of(begin, end):
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token=begin, eos_token=end)


def main():
    out = []
    for name, template, begin, end in TEMPLATES:
        tokenizer, cases = tokenizer_of(begin, end), []
        for messages in CONVERSATIONS:
            try:
                text = tokenizer.apply_chat_template(messages, chat_template=template, add_generation_prompt=True, tokenize=False)
            except Exception as error:  # its raise_exception
                print(f"{name}: {error}")
                text = None
            cases.append({"messages": messages, "text": text})
        out.append({"name": name, "begin": begin, "end": end, "template": template, "cases": cases})
    PATH.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
