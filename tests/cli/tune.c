/* tune.c: a language model that is made by attn train, tuned to tasks, and asked. */
#include "cli/program.h"

#include <stdio.h>
#include <unistd.h>

static void put(const char *name, const char *text) { write_file(in_folder(name), text, strlen(text)); }

#define IN(number, name) \
    char number[256];    \
    snprintf(number, sizeof number, "%s", in_folder(name))

static int set_up(void **state) {
    if (make_folder(state) != 0) return -1;
    char labels[6000], answers[6000];
    size_t n = 0, m = 0;
    for (int i = 0; i < 60; i++) {
        n += (size_t)sprintf(labels + n, "%s\t%s number %d\n", i % 2 ? "up" : "down", i % 2 ? "rise" : "fall", i);
        m += (size_t)sprintf(answers + m, "{\"instruction\": \"Say %c.\", \"output\": \"%c%c\"}\n", 'a' + i % 9,
                             'a' + i % 9, 'a' + i % 9);
    }
    put("labels.tsv", labels);
    put("answers.json", answers);
    IN(data, "answers.json");
    IN(base, "base");
    assert_code(RUN("train", "--model", "llama", "--data", data, "--set", "hidden_size=16", "--set",
                    "intermediate_size=32", "--set", "num_hidden_layers=2", "--set", "head_dim=8", "--set",
                    "num_attention_heads=2", "--steps", "3", "--batch-tokens", "256", "-q", "-o", base),
                0);
    return 0;
}

static void test_classify(void **state) {
    (void)state;
    IN(base, "base");
    IN(data, "labels.tsv");
    IN(out, "labelled");
    const outcome *o = RUN("train", "--init", base, "--task", "classify", "--data", data, "--holdout", "0.2", "--lr",
                           "0.02", "--epochs", "12", "--batch-tokens", "200", "-o", out);
    assert_code(o, 0);
    assert_non_null(strstr(o->err, "accuracy 100.00 %"));
    assert_code(o = RUN("classify", "-m", out, "rise", "number", "7"), 0);
    assert_prints(o, "up\t");
    assert_code(o = RUN_INPUT("rise number 5\nfall number 8\n", "classify", "-m", out, "--json"), 0);
    assert_int_equal(count_lines(o->out), 2);
    assert_prints(o, "{\"label\":\"down\",\"probabilities\":{\"down\":");
    assert_code(o = RUN("eval", "-m", out, "--data", data), 0);
    assert_prints(o, "texts 60  accuracy 1.0000");
    assert_prints(o, "down 30 of 30");
    o = RUN("generate", "-m", out, "rise");
    assert_code(o, 1);
    assert_says(o, "classifies texts");
    o = RUN("classify", "-m", base, "rise");
    assert_code(o, 1);
    assert_says(o, "a model without labels");
    put("other.tsv", "up\trise\nsideways\tno\n");
    IN(other, "other.tsv");
    o = RUN("eval", "-m", out, "--data", other);
    assert_code(o, 1);
    assert_says(o, "other.tsv:2: found the label \"sideways\"");
    put("one.tsv", "up\trise\nup\tno\n");
    IN(one, "one.tsv");
    o = RUN("train", "--init", base, "--task", "classify", "--data", one, "-o", in_folder("never"));
    assert_code(o, 1);
    assert_says(o, "found 1 labels, expected 2");
}

static void test_instructions(void **state) {
    (void)state;
    IN(base, "base");
    IN(data, "answers.json");
    IN(out, "answering");
    const outcome *o = RUN("train", "--init", base, "--task", "instructions", "--template", "plain", "--data", data,
                           "--valid", data, "--lr", "0.02", "--epochs", "30", "--batch-tokens", "200", "-q", "-o", out);
    assert_code(o, 0);
    assert_code(o = RUN("generate", "-m", out, "--instruction", "plain", "-p", "Say c.", "-n", "2", "--temp", "0"), 0);
    assert_string_equal(o->out, "cc\n");
    assert_code(o = RUN("eval", "-m", out, "--task", "instructions", "--template", "plain", "--data", data), 0);
    assert_prints(o, "accuracy 1.0000  tokens 120");
    o = RUN("generate", "-m", out, "--input", "x", "-p", "Say c.");
    assert_code(o, 2);
    put("broken.json", "{\"instruction\": \"Say a.\"}\n");
    IN(broken, "broken.json");
    o = RUN("train", "--init", base, "--task", "instructions", "--template", "plain", "--data", data, "--max-tokens",
            "4", "-q", "-o", in_folder("never"));
    assert_code(o, 1);
    assert_says(o, "no example to train on: 60 have more than 4 tokens, 0 have none");
    put("long.json", "[{\"instruction\": \"Say a.\", \"output\": \"aa\"},\n"
                     " {\"instruction\": \"Say a a a a.\", \"output\": \"aa\"}]\n");
    IN(longer, "long.json");
    o = RUN("train", "--init", base, "--task", "instructions", "--template", "plain", "--data", longer, "--max-tokens",
            "10", "--steps", "1", "-o", in_folder("short"));
    assert_code(o, 0);
    assert_non_null(strstr(o->err, "left out: 1 examples of more than 10 tokens, 0 empty ones\n"));
    o = RUN("train", "--init", base, "--task", "instructions", "--data", broken, "-o", in_folder("unborn"));
    assert_code(o, 1);
    assert_says(o, "broken.json:1: \"output\": expected a string, found nothing");
    assert_int_equal(access(in_folder("unborn"), F_OK), -1);
}

static void test_preferences(void **state) {
    (void)state;
    char pairs[6000];
    size_t n = 0;
    for (int i = 0; i < 30; i++)
        n += (size_t)sprintf(pairs + n, "{\"instruction\": \"Say %c.\", \"chosen\": \"%c.\", \"rejected\": \"no\"}\n",
                             'a' + i % 9, 'a' + i % 9);
    put("pairs.json", pairs);
    IN(base, "base");
    IN(data, "pairs.json");
    IN(out, "polite");
    const outcome *o =
        RUN("eval", "-m", base, "--task", "preferences", "--template", "plain", "--data", data, "--reference", base);
    assert_code(o, 0); /* no reward by itself */
    assert_prints(o, "reward_accuracy 0.0000  reward_margin 0.0000  loss 0.6931  pairs 30");
    assert_code(RUN("train", "--init", base, "--task", "preferences", "--template", "plain", "--data", data, "--lr",
                    "0.02", "--epochs", "20", "--batch-tokens", "200", "-q", "-o", out),
                0);
    o = RUN("eval", "-m", out, "--task", "preferences", "--template", "plain", "--data", data, "--reference", base);
    assert_code(o, 0);
    assert_prints(o, "preferred 1.0000  preferred_per_token 1.0000  reward_accuracy 1.0000");
    assert_code(RUN("eval", "-m", out, "--task", "instructions", "--data", data, "--reference", base), 2);
    o = RUN("eval", "-m", out, "--task", "preferences", "--data", data, "--reference", "/nowhere");
    assert_code(o, 1);
    assert_says(o, "/nowhere");
}

static void test_adapters(void **state) {
    (void)state;
    IN(base, "base");
    IN(data, "labels.tsv");
    IN(out, "adapted");
    IN(whole, "merged");
    const outcome *o =
        RUN("train", "--init", base, "--task", "classify", "--lora", "4", "--lora-targets", "q,v,mlp", "--data", data,
            "--holdout", "0.2", "--lr", "0.02", "--epochs", "12", "--batch-tokens", "200", "-q", "-o", out);
    assert_code(o, 0);
    assert_int_not_equal(access(in_folder("adapted/model.safetensors"), F_OK), 0);
    assert_int_equal(access(in_folder("adapted/adapter_model.safetensors"), F_OK), 0);
    assert_code(o = RUN("eval", "-m", out, "--data", data), 0);
    assert_prints(o, "accuracy 1.0000");
    assert_code(RUN("convert", out, "-o", whole), 0);
    assert_code(o = RUN("eval", "-m", whole, "--data", data), 0);
    assert_prints(o, "accuracy 1.0000");
    o = RUN("train", "--init", out, "--task", "classify", "--lora", "4", "--data", data, "-q", "-o",
            in_folder("never"));
    assert_code(o, 1);
    assert_says(o, "it is an adapter itself");
    o = RUN("train", "--init", base, "--lora", "4", "--lora-targets", "q,w", "--data", data, "-o", in_folder("never"));
    assert_code(o, 2);
    assert_says(o, "--lora-targets: found \"q,w\"");
    put("adapted/adapter_config.json", "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"use_dora\": true}");
    o = RUN("eval", "-m", out, "--data", data);
    assert_code(o, 1);
    assert_says(o, "\"use_dora\": expected none");
    put("adapted/adapter_config.json",
        "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"base_model_name_or_path\": \"/nowhere\"}");
    o = RUN("eval", "-m", out, "--data", data);
    assert_code(o, 1);
    assert_says(o, "/nowhere");
}

/* What a language model learns, and what it makes of tokens at first. */
static void test_windows(void **state) {
    (void)state;
    IN(base, "base");
    const outcome *o = RUN("tokenize", "-m", base, "--window", "2", "--stride", "1", "Sayab");
    assert_code(o, 0);
    assert_string_equal(o->out, "S a\ta y\na y\ty a\ny a\ta b\n");
    put("text", "Sayab");
    IN(text, "text");
    assert_code(o = RUN("tokenize", "-m", base, "--window", "2", "-f", text), 0);
    assert_string_equal(o->out, "S a\ta y\ny a\ta b\n");
    assert_code(o = RUN("tokenize", "-m", base, "--embeddings", "--limit", "2", "Say"), 0);
    assert_int_equal(count_lines(o->out), 2);
    assert_prints(o, "1\t");
    assert_code(RUN("tokenize", "-m", base, "--stride", "1", "Say"), 2);
    assert_code(RUN("tokenize", "-m", base, "-f", text, "Say"), 2);
    o = RUN("tokenize", "--embeddings", "Say");
    assert_code(o, 2);
}

static void test_refused(void **state) {
    (void)state;
    IN(base, "base");
    IN(data, "answers.json");
    const outcome *o = RUN("train", "--task", "instructions", "--data", data, "-o", in_folder("never"));
    assert_code(o, 2);
    assert_says(o, "--task instructions needs --init DIR");
    o = RUN("train", "--init", base, "--model", "gpt", "--data", data, "-o", in_folder("never"));
    assert_code(o, 2);
    assert_says(o, "--model: found \"gpt2\", expected \"llama\"");
    o = RUN("train", "--init", base, "--set", "hidden_size=24", "--data", data, "-o", in_folder("never"));
    assert_code(o, 1);
    assert_says(o, "expected shape");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_classify),    cmocka_unit_test(test_instructions),
                                       cmocka_unit_test(test_preferences), cmocka_unit_test(test_adapters),
                                       cmocka_unit_test(test_windows),     cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, set_up, remove_folder);
}
