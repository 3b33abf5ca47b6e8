/* pool.h: the context's threads.
 *
 *     attn_pool_run(pool, n, fn, arg);      // fn(arg, 0) … fn(arg, n−1), on all threads, this one among them
 *
 * One run at a time. A run inside a task is done by the thread that asks, in order. */
#ifndef ATTN_BASE_POOL_H
#define ATTN_BASE_POOL_H

#include "base/base.h"

typedef struct attn_pool attn_pool;

/* threads counts the calling one: threads − 1 are started. gives. */
attn_status attn_pool_create(attn_pool **gives, attn_context *ctx, int threads);
void attn_pool_free(attn_context *ctx, attn_pool *pool); /* NULL is fine */
void attn_pool_run(attn_pool *pool, size_t n, attn_task *fn, void *arg);

/* The processors this process may use: affinity and the container's quota counted. At least 1. */
int attn_processor_count(void);

/* 1 … threads − 1 in a thread of a pool, 0 in any other. */
size_t attn_thread_number(void);
/* True in a piece of a job that is spread over threads: what it starts itself runs on its own thread. */
bool attn_in_task(void);
/* Runs fn(arg, first … end−1), a piece of such a job, on this thread. Subnormal numbers count as zero meanwhile. */
void attn_task_run(attn_task *fn, void *arg, size_t first, size_t end);
/* Runs a whole job, fn(arg, 0 … n−1), on this thread, in order. */
void attn_task_run_alone(attn_task *fn, void *arg, size_t n);

#endif
