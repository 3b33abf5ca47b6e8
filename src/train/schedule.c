/* schedule.c: the learning rate of a step. */
#include "train/trainer.h"

#include <math.h>

double attn_schedule_rate(const attn_train_options *options, uint64_t step, uint64_t steps, double seconds,
                          uint64_t halvings) {
    const double pi = 3.14159265358979323846;
    double top = (double)options->learning_rate, floor = (double)options->final_learning_rate;
    double warmup = (double)options->warmup_steps, at = (double)step;
    if (at < warmup) return top * at / warmup;
    double progress = 0; /* of what comes after the warm-up */
    if ((double)steps > warmup) progress = (at - warmup) / ((double)steps - warmup);
    if (options->max_seconds > 0) progress = fmax(progress, seconds / options->max_seconds);
    progress = fmin(progress, 1);
    switch (options->schedule) {
    case ATTN_SCHEDULE_CONSTANT: return top;
    case ATTN_SCHEDULE_LINEAR: return top + (floor - top) * progress;
    case ATTN_SCHEDULE_COSINE: return floor + (top - floor) * 0.5 * (1 + cos(pi * progress));
    case ATTN_SCHEDULE_INVERSE_SQRT: return fmax(floor, top * sqrt(fmax(warmup, 1) / fmax(at, 1)));
    case ATTN_SCHEDULE_PLATEAU: return fmax(floor, ldexp(top, -(int)ATTN_MIN(halvings, 1000)));
    }
    return top;
}
