/* chat_families.c: the chat templates that are recognised, by what their text has. The first that fits is taken. */
#include "infer/chat.h"

#include <string.h>

#define BOTH_TRIMMED .trims_user = true, .trims_assistant = true

static const attn_chat_family families[] = {
    /* SmolLM2, Qwen and many others. */
    {.name = "chatml",
     .marks = {"<|im_start|>", "<|im_end|>"},
     .absent = {"<|im_sep|>", "reasoning_mode"},
     .system = "<|im_start|>system\n%c<|im_end|>\n",
     .user = "<|im_start|>user\n%c<|im_end|>\n",
     .assistant = "<|im_start|>assistant\n%c<|im_end|>\n",
     .answer = "<|im_start|>assistant\n",
     .end = "<|im_end|>",
     .begins = true},
#define LLAMA3                                                                    \
    .system = "<|start_header_id|>system<|end_header_id|>\n\n%c<|eot_id|>",       \
    .user = "<|start_header_id|>user<|end_header_id|>\n\n%c<|eot_id|>",           \
    .assistant = "<|start_header_id|>assistant<|end_header_id|>\n\n%c<|eot_id|>", \
    .answer = "<|start_header_id|>assistant<|end_header_id|>\n\n", .end = "<|eot_id|>", BOTH_TRIMMED, .begins = true
    {.name = "llama-3.1",
     .marks = {"<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date"},
     LLAMA3,
     .dated = true},
    {.name = "llama-3", .marks = {"<|start_header_id|>", "<|eot_id|>"}, LLAMA3},
    {.name = "llama-2",
     .marks = {"[INST]", "<<SYS>>", ".strip()"},
     .absent = {"true == true"},
     .system = "<<SYS>>\n%c\n<</SYS>>\n\n",
     .user = "%b[INST] %c [/INST]",
     .assistant = " %c %e",
     .answer = "",
     BOTH_TRIMMED,
     .place = ATTN_SYSTEM_FIRST,
     .trims_together = true,
     .alternates = true},
/* Mistral's differ in spaces. */
#define MISTRAL(spaces_before, open, close, answer_space)                                                     \
    .user = spaces_before "[INST]" open "%c" close "[/INST]", .assistant = answer_space "%c%e", .answer = "", \
    .system = "%c\n\n", .begins = true, .alternates = true, .absent = {"<<SYS>>", "[SYSTEM_PROMPT]"}
    {.name = "mistral-v1",
     .marks = {"' [INST] '", "' [/INST]'"},
     MISTRAL(" ", " ", " ", " "),
     .place = ATTN_SYSTEM_FIRST},
    {.name = "mistral-v3",
     .marks = {"\"[INST] \"", "\"[/INST]\"", "|trim"},
     MISTRAL("", " ", "", " "),
     .place = ATTN_SYSTEM_LAST,
     .trims_assistant = true},
    {.name = "mistral-v3-tekken",
     .marks = {"\"[INST]\"", "\"[/INST]\""},
     MISTRAL("", "", "", ""),
     .place = ATTN_SYSTEM_LAST},
    {.name = "mistral-spaced",
     .marks = {"'[INST] '", "' [/INST]'", "eos_token + ' '"},
     .user = "[INST] %c [/INST]",
     .assistant = "%c%e ",
     .answer = "",
     .place = ATTN_SYSTEM_NONE,
     .begins = true,
     .alternates = true,
     .absent = {"<<SYS>>"}},
    {.name = "mistral", .marks = {"'[INST] '", "' [/INST]'"}, MISTRAL("", " ", " ", ""), .place = ATTN_SYSTEM_NONE},
#define GEMMA                                                                                                 \
    .user = "<start_of_turn>user\n%c<end_of_turn>\n", .assistant = "<start_of_turn>model\n%c<end_of_turn>\n", \
    .answer = "<start_of_turn>model\n", .end = "<end_of_turn>", BOTH_TRIMMED, .begins = true, .alternates = true
    {.name = "gemma-3",
     .marks = {"<start_of_turn>", "<end_of_turn>", "first_user_prefix"},
     GEMMA,
     .system = "%c\n\n",
     .place = ATTN_SYSTEM_FIRST},
    {.name = "gemma", .marks = {"<start_of_turn>", "<end_of_turn>"}, GEMMA, .place = ATTN_SYSTEM_NONE},
    {.name = "zephyr",
     .marks = {"<|user|>", "<|assistant|>", "eos_token"},
     .absent = {"<|end|>", "[gMASK]"},
     .system = "<|system|>\n%c%e\n",
     .user = "<|user|>\n%c%e\n",
     .assistant = "<|assistant|>\n%c%e\n",
     .answer = "<|assistant|>\n"},
};

static bool fits(const attn_chat_family *family, const char *jinja) {
    for (size_t i = 0; i < ATTN_COUNT(family->marks); i++)
        if (family->marks[i] && !strstr(jinja, family->marks[i])) return false;
    for (size_t i = 0; i < ATTN_COUNT(family->absent); i++)
        if (family->absent[i] && strstr(jinja, family->absent[i])) return false;
    return true;
}

const attn_chat_family *attn_chat_family_of(const char *jinja) {
    for (size_t i = 0; i < ATTN_COUNT(families); i++)
        if (fits(&families[i], jinja)) return &families[i];
    return NULL;
}

const attn_chat_family *attn_chat_family_named(const char *name) {
    for (size_t i = 0; i < ATTN_COUNT(families); i++)
        if (!strcmp(families[i].name, name)) return &families[i];
    return NULL;
}

void attn_chat_list_names(attn_buffer *out) {
    for (const char *const *name = attn_chat_names(); *name; name++)
        attn_buffer_printf(out, "%s%s", out->bytes ? ", " : "", *name);
}

const char *const *attn_chat_names(void) {
    static const char *const names[] = {
        "chatml",         "llama-3.1", "llama-3", "llama-2", "mistral-v1", "mistral-v3", "mistral-v3-tekken",
        "mistral-spaced", "mistral",   "gemma-3", "gemma",   "zephyr",     NULL};
    _Static_assert(ATTN_COUNT(names) == ATTN_COUNT(families) + 1, "the names are those of the table");
    return names;
}
