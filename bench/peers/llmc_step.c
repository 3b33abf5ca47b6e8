/* llmc_step.c: llm.c's training step (github.com/karpathy/llm.c, train_gpt2.c), timed as bench/train_step.c does.
 *
 *     cc -O3 -march=native -ffast-math -fopenmp -I LLM.C -o llmc_step bench/peers/llmc_step.c -lm
 *     llmc_step FOLDER B T       FOLDER/llmc.bin: the weights, FOLDER/ids: the batches
 */
#define TESTING
#include "train_gpt2.c"

int main(int count, char **arguments) {
    GPT2 model;
    char path[4096], line[64];
    if (count < 4) return 2;
    const size_t B = strtoul(arguments[2], NULL, 10), T = strtoul(arguments[3], NULL, 10), each = B * (T + 1);
    snprintf(path, sizeof path, "%s/llmc.bin", arguments[1]);
    if (!freopen("/dev/null", "w", stdout)) return 1; /* it describes the model */
    gpt2_build_from_checkpoint(&model, path);
    snprintf(path, sizeof path, "%s/ids", arguments[1]);
    FILE *file = fopenCheck(path, "rb");
    fseek(file, 0, SEEK_END);
    const size_t steps = (size_t)ftell(file) / sizeof(int) / each;
    rewind(file);
    int *ids = mallocCheck(steps * each * sizeof *ids), *in = mallocCheck(B * T * sizeof *in),
        *out = mallocCheck(B * T * sizeof *out);
    freadCheck(ids, sizeof *ids, steps * each, file);
    fcloseCheck(file);
    for (int step = 1; fgets(line, sizeof line, stdin); step++) {
        struct timespec start, end;
        const int *from = ids + (size_t)(step - 1) % steps * each;
        for (size_t b = 0; b < B; b++)
            for (size_t t = 0; t < T; t++) {
                in[b * T + t] = from[b * (T + 1) + t];
                out[b * T + t] = from[b * (T + 1) + t + 1];
            }
        clock_gettime(CLOCK_MONOTONIC, &start);
        gpt2_forward(&model, in, out, B, T);
        gpt2_zero_grad(&model);
        gpt2_backward(&model);
        gpt2_update(&model, 1e-4f, 0.9f, 0.999f, 1e-8f, 0.0f, step);
        clock_gettime(CLOCK_MONOTONIC, &end);
        fprintf(stderr, "%.3f %.6f\n",
                1e3 * (double)(end.tv_sec - start.tv_sec) + 1e-6 * (double)(end.tv_nsec - start.tv_nsec),
                model.mean_loss);
    }
    return 0;
}
