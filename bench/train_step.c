/* train_step.c: one training step of a model, timed.
 *
 * usage: train_step [bahdanau|transformer] [bf16]          V8000, B64 S16 T16, loss smoothed by 0.1
 *     bahdanau      E256 H512, without dropout
 *     transformer   d256, 3 + 3 layers, 8 heads, feed-forward 1024, dropout 0.1
 *        train_step FOLDER B T [bf16]                      a language model and FOLDER/ids: T + 1 ids (int32) of each
 * of B sequences, step by step For every line on stdin one step: loss, backward, AdamW; of translators the gradient's
 * norm and clipping too. Prints milliseconds and the loss. bench/train_step.py and bench/gpt2_step.py drive it side by
 * side with PyTorch. */
#include <attn/attn.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { B = 64, S = 16, T = 16, V = 8000 };

/* What a step learns, and how. */
typedef struct task {
    attn_pair_batch batch;
    float smoothing, decay;
    bool clip;
    int32_t *ids; /* (steps, B, T + 1) of a language model; NULL: the same batch each time */
    size_t steps;
} task;

static const char bahdanau[] =
    "{\"model_type\": \"bahdanau\", \"vocab_size\": 8000, \"embedding_size\": 256, \"hidden_size\": 512,"
    "\"tie_embeddings\": false, \"embedding_dropout\": 0, \"annotation_dropout\": 0, \"output_dropout\": 0}";
static const char transformer[] = "{\"model_type\": \"transformer\", \"vocab_size\": 8000}";

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void check(attn_context *ctx, attn_status status) {
    if (status == ATTN_OK) return;
    fprintf(stderr, "train_step: %s\n", attn_error(ctx));
    exit(1);
}

/* m and v of parameter i are 2i and 2i + 1. */
static attn_parameters *make_moments(attn_context *ctx, const attn_parameters *set) {
    attn_parameters *moments;
    check(ctx, attn_parameters_create(&moments, ctx, 0));
    for (size_t i = 0; i < 2 * attn_parameters_count(set); i++) {
        const attn_tensor *value = &attn_parameters_at(set, i / 2)->value;
        attn_parameter *moment;
        char name[32];
        snprintf(name, sizeof name, "%zu", i);
        check(ctx, attn_parameters_add(moments, &moment, name, ATTN_INIT_ZERO, 0, value->rank, value->shape));
    }
    return moments;
}

static double gradient_norm(attn_context *ctx, const attn_parameters *set) {
    double squares = 0, sum;
    for (size_t i = 0; i < attn_parameters_count(set); i++) {
        check(ctx, attn_sum_of_squares(ctx, &sum, &attn_parameters_at(set, i)->grad));
        squares += sum;
    }
    return sqrt(squares);
}

static double step(attn_context *ctx, attn_model *model, attn_tape *tape, const task *t, attn_parameters *moments,
                   uint64_t number) {
    attn_parameters *set = attn_model_parameters(model);
    attn_loss_stats stats = {0};
    attn_tape_reset(tape);
    attn_tape_seed(tape, 1, number);
    attn_tape_replaces_grad(tape, set);
    const float scale = 1.0f / (float)(t->batch.batch * t->batch.target_steps);
    check(ctx, attn_tape_backward(tape, attn_model_loss(model, tape, &t->batch, t->smoothing, scale, &stats)));
    const float norm = t->clip ? (float)gradient_norm(ctx, set) : 1;
    attn_adamw_options o = {sizeof o, 1e-4f, 0.9f, 0.999f, 1e-8f, t->decay, norm > 1 ? 1 / norm : 1, number};
    for (size_t i = 0; i < attn_parameters_count(set); i++) {
        attn_parameter *p = attn_parameters_at(set, i);
        const attn_parameter *m = attn_parameters_at(moments, 2 * i), *v = attn_parameters_at(moments, 2 * i + 1);
        check(ctx, attn_adamw(ctx, &p->value, &m->value, &v->value, &p->grad, &o));
        attn_parameter_touch(p);
    }
    return stats.loss / (double)stats.tokens;
}

static void make_pairs(task *t) {
    static int32_t source[S * B], in[T * B], out[T * B], source_lengths[B], target_lengths[B];
    srand(1);
    for (int i = 0; i < S * B; i++) source[i] = rand() % V;
    for (int i = 0; i < T * B; i++) {
        in[i] = rand() % V;
        out[i] = rand() % V;
    }
    for (int b = 0; b < B; b++) {
        source_lengths[b] = S;
        target_lengths[b] = T;
    }
    t->batch = (attn_pair_batch){.batch = B,
                                 .source_steps = S,
                                 .target_steps = T,
                                 .source = source,
                                 .source_lengths = source_lengths,
                                 .target_in = in,
                                 .target_out = out,
                                 .target_lengths = target_lengths};
    t->smoothing = 0.1f, t->decay = 0.01f, t->clip = true;
}

static void read_ids(task *t, const char *folder, size_t batch, size_t steps) {
    char path[4096];
    snprintf(path, sizeof path, "%s/ids", folder);
    FILE *file = fopen(path, "rb");
    const size_t each = batch * (steps + 1);
    if (!file || fseek(file, 0, SEEK_END) != 0) exit(1);
    t->steps = (size_t)ftell(file) / sizeof(int32_t) / each;
    t->ids = calloc(t->steps * each, sizeof *t->ids);
    rewind(file);
    if (!t->steps || fread(t->ids, sizeof *t->ids, t->steps * each, file) != t->steps * each) exit(1);
    fclose(file);
    int32_t *both = calloc(2 * batch * steps, sizeof *both);
    t->batch =
        (attn_pair_batch){.batch = batch, .target_steps = steps, .target_in = both, .target_out = both + batch * steps};
}

/* Step `number`'s ids, time-major. */
static void next_batch(task *t, size_t number) {
    const size_t n = t->batch.batch, steps = t->batch.target_steps;
    const int32_t *from = t->ids + number % t->steps * n * (steps + 1);
    int32_t *in = (int32_t *)(uintptr_t)t->batch.target_in, *out = in + n * steps;
    for (size_t b = 0; b < n; b++)
        for (size_t i = 0; i < steps; i++) {
            in[i * n + b] = from[b * (steps + 1) + i];
            out[i * n + b] = from[b * (steps + 1) + i + 1];
        }
}

int main(int count, char **arguments) {
    attn_context *ctx;
    attn_model *model;
    attn_tape *tape;
    task t = {0};
    if (attn_context_create(&ctx, NULL) != ATTN_OK) return 1;
    const bool other = count > 1 && strcmp(arguments[1], "transformer") == 0, language = count > 3;
    if (language) {
        read_ids(&t, arguments[1], strtoul(arguments[2], NULL, 10), strtoul(arguments[3], NULL, 10));
        check(ctx, attn_model_load(&model, ctx, arguments[1]));
    } else {
        make_pairs(&t);
        check(ctx, attn_model_create(&model, ctx, other ? transformer : bahdanau, 1));
    }
    check(ctx, attn_tape_create(&tape, ctx, true));
    if (strcmp(arguments[count - 1], "bf16") == 0) check(ctx, attn_tape_precision(tape, ATTN_BF16));
    attn_parameters *moments = make_moments(ctx, attn_model_parameters(model));
    char line[64];
    for (uint64_t number = 1; fgets(line, sizeof line, stdin); number++) {
        if (language) next_batch(&t, number - 1);
        double start = now_ms(), loss = step(ctx, model, tape, &t, moments, number);
        printf("%.3f %.6f\n", now_ms() - start, loss);
        fflush(stdout);
    }
    attn_parameters_free(moments);
    if (language) free((void *)(uintptr_t)t.batch.target_in);
    free(t.ids);
    attn_tape_free(tape);
    attn_model_free(model);
    attn_context_free(ctx);
    return 0;
}
