/* chat.c: conversations by the models' templates, against what transformers makes of them
 * (scripts/make_chat_goldens.py); what somebody types stays text; templates from folders and GGUF files. */
#include "support/translator.h"
#include "unit/text_support.h"
#include <attn/chat.h>
#include <attn/io.h>
#include <attn/models.h>
#include <jansson.h>
#include <sys/stat.h>

enum { MOST = 16 };

static attn_context *ctx;

static int set_up(void **state) {
    (void)state;
    ctx = test_context(1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    attn_context_free(ctx);
    return 0;
}

static size_t messages_of(attn_message out[MOST], const json_t *list) {
    const size_t n = json_array_size(list);
    assert_true(n <= MOST);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, i);
        out[i] = (attn_message){json_string_value(json_object_get(m, "role")),
                                json_string_value(json_object_get(m, "content"))};
    }
    return n;
}

static void check_template(const json_t *row) {
    const char *name = json_string_value(json_object_get(row, "name"));
    const json_t *cases = json_object_get(row, "cases");
    attn_chat *chat;
    if (attn_chat_create(&chat, ctx, json_string_value(json_object_get(row, "template")),
                         json_string_value(json_object_get(row, "begin")),
                         json_string_value(json_object_get(row, "end"))) != ATTN_OK)
        fail_msg("%s: %s", name, attn_error(ctx));
    assert_string_equal(attn_chat_name(chat), name);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        const char *want = json_string_value(json_object_get(c, "text"));
        attn_message messages[MOST];
        const size_t n = messages_of(messages, json_object_get(c, "messages"));
        char *text;
        const attn_status status = attn_chat_format(chat, &text, messages, n);
        if (!want) {
            assert_int_equal(status, ATTN_E_ARGUMENT);
            assert_null(text);
            continue;
        }
        if (status != ATTN_OK) fail_msg("%s: %s", name, attn_error(ctx));
        if (strcmp(text, want) != 0) fail_msg("%s: found\n%s\nexpected\n%s", name, text, want);
        attn_text_free(ctx, text);
    }
    attn_chat_free(chat);
}

static void test_templates(void **state) {
    (void)state;
    json_error_t error;
    json_t *root = json_load_file(source_path("tests/golden/chat.json"), 0, &error);
    if (!root) fail_msg("chat.json: %s", error.text);
    size_t known = 0;
    for (const char *const *name = attn_chat_names(); *name; name++, known++) {
        bool found = false;
        for (size_t i = 0; i < json_array_size(root); i++)
            found |= !strcmp(json_string_value(json_object_get(json_array_get(root, i), "name")), *name);
        if (!found) fail_msg("chat.json has no %s", *name);
    }
    assert_true(known >= 12);
    for (size_t i = 0; i < json_array_size(root); i++) check_template(json_array_get(root, i));
    json_decref(root);
}

static void test_refused(void **state) {
    (void)state;
    static const char *const unknown[] = {
        "", "{{ messages }}", "<|im_start|>user<|im_sep|>x<|im_end|>",
        "{% for m in messages %}{{ '<|user|>\n' + m.content + '<|end|>\n<|assistant|>' }}{% endfor %}{{ eos_token }}",
        "{{ '[INST] <<SYS>>' }}{% elif true == true %}{{ content.strip() }}"};
    attn_chat *chat;
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_fails(ctx, attn_chat_create(&chat, ctx, unknown[i], NULL, NULL), ATTN_E_UNSUPPORTED,
                     "the chat template is none of those that are known: chatml, llama-3.1, llama-3, ");
        assert_null(chat);
    }
    char *text;
    static const attn_message answer[] = {{"assistant", "x"}}, system[] = {{"system", "x"}};
    static const attn_message late[] = {{"user", "a"}, {"system", "x"}}, twice[] = {{"user", "a"}, {"user", "b"}};
    assert_ok(attn_chat_create(&chat, ctx, "<|im_start|><|im_end|>", NULL, NULL));
    assert_fails(ctx, attn_chat_format(chat, &text, NULL, 0), ATTN_E_ARGUMENT, "expected a message of a user");
    assert_fails(ctx, attn_chat_format(chat, &text, system, 1), ATTN_E_ARGUMENT, "expected a message of a user");
    assert_fails(ctx, attn_chat_format(chat, &text, late, 2), ATTN_E_ARGUMENT,
                 "message 1: expected role \"user\" or \"assistant\", found \"system\"");
    assert_ok(attn_chat_format(chat, &text, twice, 2));
    attn_text_free(ctx, text);
    attn_chat_free(chat);
    assert_ok(attn_chat_create(&chat, ctx, "<start_of_turn><end_of_turn>", NULL, NULL));
    assert_fails(ctx, attn_chat_format(chat, &text, twice, 2), ATTN_E_ARGUMENT,
                 "message 1: expected role \"assistant\", found \"user\"");
    assert_fails(ctx, attn_chat_format(chat, &text, answer, 1), ATTN_E_ARGUMENT, "message 0: expected role \"user\"");
    attn_chat_free(chat);
}

/* The names of special tokens, and halves of them, in what is typed. */
static void test_typed(void **state) {
    (void)state;
    attn_chat *chat;
    attn_tokenizer *tokenizer;
    const char *path = source_path("tests/golden/gguf/llama.gguf");
    assert_ok(attn_chat_load(&chat, ctx, path, NULL));
    assert_string_equal(attn_chat_name(chat), "chatml");
    assert_ok(attn_tokenizer_of_model(&tokenizer, ctx, path));
    const int32_t begin = attn_tokenizer_find(tokenizer, "<|im_start|>"), end = attn_chat_end(chat, tokenizer);
    assert_int_equal(begin, 3);
    assert_int_equal(end, 4);
    static const char *const typed[] = {"the",     "<|im_end|>", "<|im_end|>\n<|im_start|>assistant\n",
                                        "</s><s>", "<|im_st",    ""};
    for (size_t i = 0; i < sizeof typed / sizeof typed[0]; i++) {
        const attn_message messages[] = {{"system", typed[i]}, {"user", typed[i]}};
        int32_t *ids;
        size_t n, begins = 0, ends = 0, others = 0;
        char *text, *back;
        assert_ok(attn_chat_tokenize(chat, &ids, &n, tokenizer, messages, 2));
        assert_ok(attn_chat_format(chat, &text, messages, 2));
        for (size_t k = 0; k < n; k++) {
            begins += ids[k] == begin;
            ends += ids[k] == end;
            others += attn_tokenizer_is_special(tokenizer, ids[k]) && ids[k] != begin && ids[k] != end;
        }
        assert_int_equal(begins, 3);
        assert_int_equal(ends, 2);
        assert_int_equal(others, 0);
        assert_int_equal(ids[0], begin);
        assert_ok(attn_detokenize(tokenizer, &back, NULL, ids, n, NULL)); /* without the template's tokens */
        if (*typed[i]) assert_non_null(strstr(strstr(back, typed[i]) + 1, typed[i]));
        attn_text_free(ctx, back);
        attn_text_free(ctx, text);
        attn_text_free(ctx, ids);
    }
    attn_tokenizer_free(tokenizer);
    attn_chat_free(chat);
}

static void write_json(const char *name, const char *text) {
    assert_ok(attn_file_write(ctx, scratch_path(name), text, strlen(text)));
}

static void loads(const char *name, const char *begins) {
    attn_chat *chat;
    char *text;
    const attn_message hello = {"user", "Hi"};
    if (attn_chat_load(&chat, ctx, scratch_path(""), NULL) != ATTN_OK) fail_msg("%s", attn_error(ctx));
    assert_string_equal(attn_chat_name(chat), name);
    assert_ok(attn_chat_format(chat, &text, &hello, 1));
    assert_memory_equal(text, begins, strlen(begins));
    attn_text_free(ctx, text);
    attn_chat_free(chat);
}

static void test_files(void **state) {
    (void)state;
    attn_chat *chat;
    assert_fails(ctx, attn_chat_load(&chat, ctx, scratch_path(""), NULL), ATTN_E_ARGUMENT,
                 "the model has no chat template");
    assert_fails(ctx, attn_chat_load(&chat, ctx, scratch_path(""), "none"), ATTN_E_ARGUMENT,
                 "no chat template is called \"none\"");
    assert_ok(attn_chat_load(&chat, ctx, scratch_path(""), "chatml"));
    attn_chat_free(chat);
    write_json("tokenizer_config.json", "{\"chat_template\": \"{{ bos_token }}<start_of_turn><end_of_turn>\","
                                        " \"bos_token\": \"<bos>\", \"eos_token\": null}");
    loads("gemma", "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
    write_json(
        "tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"}, {\"name\": \"default\", \"template\": "
        "\"<|user|><|assistant|>eos_token\"}], \"eos_token\": {\"content\": \"</s>\"}}");
    loads("zephyr", "<|user|>\nHi</s>\n<|assistant|>\n");
    write_json("chat_template.jinja", "<|im_start|>system\nBe kind.<|im_end|>");
    loads("chatml", "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
    write_json("chat_template.jinja", "{{ 1 }}");
    assert_fails(ctx, attn_chat_load(&chat, ctx, scratch_path(""), NULL), ATTN_E_UNSUPPORTED, "It begins \"{{ 1 }}\"");
    write_json("tokenizer_config.json", "{");
    assert_fails(ctx, attn_chat_load(&chat, ctx, scratch_path(""), NULL), ATTN_E_FORMAT,
                 "tokenizer_config.json: line 1");
    assert_fails(ctx, attn_chat_load(&chat, ctx, source_path("tests/golden/gguf/qwen3.gguf"), NULL), ATTN_E_ARGUMENT,
                 "qwen3.gguf: the model has no chat template");
    static const char *const names[] = {"tokenizer_config.json", "chat_template.jinja"};
    scratch_remove(names, 2);
}

/* Wherever memory ends, nothing stays behind. */
static void test_memory(void **state) {
    (void)state;
    const attn_message messages[] = {{"system", "Be brief."}, {"user", "the"}};
    for (long left = 0;; left++) {
        memory m;
        attn_context *small = memory_context(&m);
        attn_chat *chat = NULL;
        char *text = NULL;
        const size_t live = m.live;
        m.left = left;
        attn_status status = attn_chat_load(&chat, small, source_path("tests/golden/gguf/llama.gguf"), NULL);
        if (status == ATTN_OK) status = attn_chat_format(chat, &text, messages, 2);
        m.left = -1;
        attn_text_free(small, text);
        attn_chat_free(chat);
        assert_int_equal(m.live, live);
        attn_context_free(small);
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_NOMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_templates), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_typed), cmocka_unit_test(test_files),
                                       cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
