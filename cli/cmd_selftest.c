/* cmd_selftest.c: attn selftest. A quick check of this installation on every CPU level of the machine. */
#include "common.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    bool json;
} settings;

static const option_spec options[] = {
    {"json", 0, OPTION_FLAG, offsetof(settings, json), NULL, "the figures as JSON", 0, 0, NULL}};

/* Bahdanau's attention on small numbers against double arithmetic; the largest difference. */
static double check_attention(attn_context *ctx) {
    enum { T = 3, S = 7, A = 33, C = 21 };
    static float sq[T * A], hk[S * A], v[A], h[S * C], c[T * C];
    uint32_t x = 1;
    float *const all[] = {sq, hk, v, h};
    const size_t sizes[] = {T * A, S * A, A, S * C};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            all[i][k] = (float)((x = x * 1664525u + 1013904223u) >> 8) / (1 << 23) - 1;
    attn_tensor tc = attn_tensor_f32(c, 3, (size_t)1, (size_t)T, (size_t)C),
                tsq = attn_tensor_f32(sq, 3, (size_t)1, (size_t)T, (size_t)A);
    attn_tensor thk = attn_tensor_f32(hk, 3, (size_t)1, (size_t)S, (size_t)A), tv = attn_tensor_f32(v, 1, (size_t)A);
    attn_tensor th = attn_tensor_f32(h, 3, (size_t)1, (size_t)S, (size_t)C);
    if (attn_additive_attention_fwd(ctx, &tc, NULL, NULL, NULL, &tsq, &thk, &tv, &th, NULL) != ATTN_OK) return INFINITY;
    double worst = 0;
    for (size_t i = 0; i < T; i++) {
        double e[S], sum = 0;
        for (size_t j = 0; j < S; j++) {
            e[j] = 0;
            for (size_t a = 0; a < A; a++) e[j] += (double)v[a] * tanh((double)sq[i * A + a] + (double)hk[j * A + a]);
            sum += e[j] = exp(e[j]);
        }
        for (size_t k = 0; k < C; k++) {
            double expected = 0;
            for (size_t j = 0; j < S; j++) expected += e[j] / sum * (double)h[j * C + k];
            double difference = fabs(expected - (double)c[i * C + k]);
            if (!(difference <= worst)) worst = difference;
        }
    }
    return worst;
}

/* *text: the translation, malloc'd; NULL where no model ships with this installation. */
static bool check_translation(const command *c, char **text) {
    translator t;
    attn_translation tr;
    const char *german = "Kannst du mir helfen diesen Satz zu übersetzen";
    *text = NULL;
    if (!cli_share("models/de-en")) return true;
    if (!cli_load_translator(c, &t, NULL)) return false;
    bool fine = attn_translate(t.model, t.tokenizer, &tr, &german, NULL, 1, NULL) == ATTN_OK;
    if (fine) {
        *text = strdup(tr.hypothesis->text);
        fine = strstr(tr.hypothesis->text, "help") != NULL;
        attn_translation_clear(cli_context(), &tr);
    } else {
        cli_fail_status(c);
    }
    cli_free_translator(&t);
    return fine;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {0};
    char *text;
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first < argc) return cli_wrong_use(c, "found operand \"%s\", expected options only", argv[first]);
    if (!cli_context()) return EXIT_FAILED;
    json_t *root = json_object(), *levels = json_object();
    const bool report = !s.json && !cli_quiet;
    bool fine = true;
    for (const char *const *level = attn_cpu_levels(); *level; level++) {
        attn_context_options o = ATTN_CONTEXT_OPTIONS_INIT;
        o.threads = attn_threads(cli_context());
        o.cpu_level = *level;
        attn_context *ctx;
        double worst = attn_context_create(&ctx, &o) == ATTN_OK ? check_attention(ctx) : INFINITY;
        attn_context_free(ctx);
        if (report)
            printf("%-12s attention differs from double arithmetic by %.1e: %s\n", *level, worst,
                   worst < 1e-5 ? "fine" : "WRONG");
        json_object_set_new(levels, *level, cli_json_number(worst));
        fine = fine && worst < 1e-5;
    }
    fine = check_translation(c, &text) && fine;
    if (text && report) printf("translation: %s\n", text);
    json_object_set_new(root, "fine", json_boolean(fine));
    json_object_set_new(root, "attention_error", levels);
    json_object_set_new(root, "translation", text ? json_string(text) : json_null());
    free(text);
    if (s.json) cli_put_json(root, JSON_COMPACT | JSON_REAL_PRECISION(3));
    else json_decref(root);
    return fine ? EXIT_DONE : cli_fail(c, "this installation does not work as it should");
}

const command command_selftest = {
    .name = "selftest",
    .summary = "check this installation in a second",
    .operands = "",
    .example = "  attn selftest",
    .options = options,
    .option_count = 1,
    .run = run,
};
