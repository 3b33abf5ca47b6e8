/* train_step.c: one training step of a translator, timed; V8000, B64 S16 T16.
 *
 * usage: train_step [bahdanau|transformer] [bf16]
 *     bahdanau      E256 H512, without dropout
 *     transformer   d256, 3 + 3 layers, 8 heads, feed-forward 1024, dropout 0.1
 * For every line on stdin one step: loss, backward, gradient norm and clipping, AdamW. Prints milliseconds.
 * bench/train_step.py drives it side by side with PyTorch. */
#include <attn/attn.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { B = 64, S = 16, T = 16, V = 8000 };

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

typedef struct moments {
    attn_tensor m, v;
} moments;

static attn_tensor zeros_like(const attn_tensor *t) {
    return attn_tensor_of(calloc(attn_tensor_count(t), sizeof(float)), ATTN_F32, t->rank, t->shape);
}

static double step(attn_context *ctx, attn_model *model, attn_tape *tape, const attn_pair_batch *batch, moments *state,
                   uint64_t number) {
    attn_parameters *set = attn_model_parameters(model);
    size_t n = attn_parameters_count(set);
    attn_loss_stats stats = {0};
    double squares = 0;
    attn_tape_reset(tape);
    attn_tape_seed(tape, 1, number);
    attn_parameters_zero_grad(set);
    check(ctx, attn_tape_backward(tape, attn_model_loss(model, tape, batch, 0.1f, 1.0f / (B * T), &stats)));
    for (size_t i = 0; i < n; i++) {
        double sum;
        check(ctx, attn_sum_of_squares(ctx, &sum, &attn_parameters_at(set, i)->grad));
        squares += sum;
    }
    float norm = (float)sqrt(squares);
    attn_adamw_options o = {sizeof o, 1e-4f, 0.9f, 0.999f, 1e-8f, 0.01f, norm > 1 ? 1 / norm : 1, number};
    for (size_t i = 0; i < n; i++) {
        attn_parameter *p = attn_parameters_at(set, i);
        check(ctx, attn_adamw(ctx, &p->value, &state[i].m, &state[i].v, &p->grad, &o));
        attn_parameter_touch(p);
    }
    return stats.loss / (double)stats.tokens;
}

int main(int count, char **arguments) {
    attn_context *ctx;
    attn_model *model;
    attn_tape *tape;
    static int32_t source[S * B], in[T * B], out[T * B], source_lengths[B], target_lengths[B];
    if (attn_context_create(&ctx, NULL) != ATTN_OK) return 1;
    bool other = count > 1 && strcmp(arguments[1], "transformer") == 0;
    check(ctx, attn_model_create(&model, ctx, other ? transformer : bahdanau, 1));
    check(ctx, attn_tape_create(&tape, ctx, true));
    if (strcmp(arguments[count - 1], "bf16") == 0) check(ctx, attn_tape_precision(tape, ATTN_BF16));
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
    attn_pair_batch batch = {B, S, T, source, source_lengths, in, out, target_lengths, NULL, 0};
    attn_parameters *set = attn_model_parameters(model);
    moments *state = calloc(attn_parameters_count(set), sizeof *state);
    for (size_t i = 0; i < attn_parameters_count(set); i++) {
        state[i].m = zeros_like(&attn_parameters_at(set, i)->value);
        state[i].v = zeros_like(&attn_parameters_at(set, i)->value);
    }
    char line[64];
    for (uint64_t number = 1; fgets(line, sizeof line, stdin); number++) {
        double start = now_ms(), loss = step(ctx, model, tape, &batch, state, number);
        printf("%.3f %.4f\n", now_ms() - start, loss);
        fflush(stdout);
    }
    for (size_t i = 0; i < attn_parameters_count(set); i++) {
        free(state[i].m.data);
        free(state[i].v.data);
    }
    free(state);
    attn_tape_free(tape);
    attn_model_free(model);
    attn_context_free(ctx);
    return 0;
}
