/* pool.c: a thread pool for jobs of microseconds.
 *
 * A job is cut into pieces of `chunk` indices, which threads claim from `ticket` = epoch · 2^32 + next index. The
 * caller works too and waits only for indices that were claimed, never for a thread that has not woken up.
 *   (I1) The job's fields are written only while the ticket is closed (next = CLOSED).
 *   (I2) A claim is a compare-and-swap of a whole ticket: if it succeeds, the ticket was not closed since it was read,
 *        so the fields read in between are those of that epoch. A late thread cannot take a piece of another job.
 *   (I3) pending counts indices that are not yet done; the caller returns when it is zero.
 * Idle threads watch the ticket's epoch for SPIN_NS, then sleep on `signal`. */
#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__) && !defined(ATTN_POOL_CONDVAR)
#define POOL_FUTEX 1
#include <linux/futex.h>
#include <sys/syscall.h>
#else
#define POOL_FUTEX 0
#endif

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { SPIN_NS = 60000, SPINS_PER_CLOCK = 32, PIECES_PER_THREAD = 8, STACK_BYTES = 2 << 20 };
#define CLOSED UINT32_MAX
#define MAX_JOB ((size_t)1 << 31) /* longer jobs are run in parts of this many indices */

typedef _Atomic uint32_t word;

struct attn_pool {
    int threads;
    _Atomic size_t numbers; /* of threads, given so far */
    int64_t spin_ns;        /* 0 where there are more threads than processors */
    pid_t process;          /* a forked child has this struct, but not the threads */
    _Atomic bool stop;

    _Alignas(64) _Atomic uint64_t ticket;
    _Atomic uint32_t n, chunk;
    _Atomic(attn_task *) fn;
    _Atomic(void *) arg;

    _Alignas(64) word pending;
    word caller_sleeps;
    _Alignas(64) word signal; /* one more for each job */
    word sleepers;
#if !POOL_FUTEX
    pthread_mutex_t mutex;
    pthread_cond_t changed;
#endif
    pthread_t thread[]; /* threads − 1 */
};

/* ---- what a task's thread is set to ------------------------------------------------------------ */

static _Thread_local bool in_task;
static _Thread_local size_t thread_number;

bool attn_in_task(void) { return in_task; }
size_t attn_thread_number(void) { return thread_number; }

/* Subnormal numbers cost a hundred cycles each and mean nothing here: they are zeros, as on every accelerator. */
#if defined(__x86_64__)
typedef unsigned int float_mode;
static float_mode float_mode_set(void) {
    float_mode before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); /* flush to zero, denormals are zero */
    return before;
}
static void float_mode_restore(float_mode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
typedef uint64_t float_mode;
static float_mode float_mode_set(void) {
    float_mode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (uint64_t)1 << 24) : "memory"); /* FZ */
    return before;
}
static void float_mode_restore(float_mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
#else
typedef int float_mode;
static float_mode float_mode_set(void) { return 0; }
static void float_mode_restore(float_mode mode) { (void)mode; }
#endif

void attn_task_run(attn_task *fn, void *arg, size_t first, size_t end) {
    bool outer = in_task;
    in_task = true;
    float_mode before = float_mode_set();
    for (size_t i = first; i < end; i++) fn(arg, i);
    float_mode_restore(before);
    in_task = outer;
}

void attn_task_run_alone(attn_task *fn, void *arg, size_t n) {
    float_mode before = float_mode_set();
    for (size_t i = 0; i < n; i++) fn(arg, i);
    float_mode_restore(before);
}

/* ---- waiting ----------------------------------------------------------------------------------- */

#if POOL_FUTEX
/* Sleeps if *w is still `seen`; may return early. */
static void word_wait(attn_pool *pool, word *w, uint32_t seen) {
    (void)pool;
    syscall(SYS_futex, w, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}
static void word_wake(attn_pool *pool, word *w, int count) {
    (void)pool;
    syscall(SYS_futex, w, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}
#else
static void word_wait(attn_pool *pool, word *w, uint32_t seen) {
    pthread_mutex_lock(&pool->mutex);
    if (atomic_load(w) == seen) pthread_cond_wait(&pool->changed, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}
static void word_wake(attn_pool *pool, word *w, int count) {
    (void)w, (void)count; /* the condition is shared by all words */
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->mutex);
}
#endif

static inline void relax(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Waits until *w is not `seen`, at most spin_ns; true if it changed. */
static bool word_spin(const attn_pool *pool, const word *w, uint32_t seen) {
    if (pool->spin_ns == 0) return atomic_load(w) != seen;
    for (int64_t end = now_ns() + pool->spin_ns;;) {
        for (int i = 0; i < SPINS_PER_CLOCK; i++) {
            if (atomic_load_explicit(w, memory_order_acquire) != seen) return true;
            relax();
        }
        if (now_ns() >= end) return false;
    }
}

/* ---- a job ------------------------------------------------------------------------------------- */

/* Claims pieces of the open job and runs them until none is left. */
static void work(attn_pool *pool) {
    uint64_t ticket = atomic_load(&pool->ticket);
    for (;;) {
        uint32_t next = (uint32_t)ticket;
        if (next == CLOSED) return;
        uint32_t n = atomic_load(&pool->n), chunk = atomic_load(&pool->chunk);
        attn_task *fn = atomic_load(&pool->fn);
        void *arg = atomic_load(&pool->arg);
        if (next >= n) return;
        uint32_t count = ATTN_MIN(chunk, n - next);
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + count)) continue; /* ticket is read anew */
        attn_task_run(fn, arg, next, (size_t)next + count);
        if (atomic_fetch_sub(&pool->pending, count) == count && atomic_load(&pool->caller_sleeps))
            word_wake(pool, &pool->pending, 1);
        ticket = atomic_load(&pool->ticket);
    }
}

static void *worker_main(void *argument) {
    attn_pool *pool = argument;
    uint32_t seen = 0;
    thread_number = atomic_fetch_add(&pool->numbers, 1) + 1;
    for (;;) {
        if (!word_spin(pool, &pool->signal, seen)) {
            atomic_fetch_add(&pool->sleepers, 1);
            while (atomic_load(&pool->signal) == seen) word_wait(pool, &pool->signal, seen);
            atomic_fetch_sub(&pool->sleepers, 1);
        }
        seen = atomic_load(&pool->signal);
        if (atomic_load(&pool->stop)) return NULL;
        work(pool);
    }
}

/* Tells the threads that something changed; wakes at most `count` of those that sleep. */
static void announce(attn_pool *pool, int count) {
    atomic_fetch_add(&pool->signal, 1);
    if (atomic_load(&pool->sleepers)) word_wake(pool, &pool->signal, count);
}

/* (I3) for n ≤ MAX_JOB. */
static void run_part(attn_pool *pool, uint32_t n, attn_task *fn, void *arg) {
    uint64_t epoch = (atomic_load(&pool->ticket) >> 32) + 1;
    atomic_store(&pool->ticket, epoch << 32 | CLOSED); /* (I1) */
    atomic_store(&pool->pending, n);
    atomic_store(&pool->n, n);
    atomic_store(&pool->chunk, ATTN_MAX(n / ((uint32_t)pool->threads * PIECES_PER_THREAD), 1));
    atomic_store(&pool->fn, fn);
    atomic_store(&pool->arg, arg);
    atomic_store(&pool->ticket, epoch << 32);
    announce(pool, (int)ATTN_MIN(n - 1, (uint32_t)pool->threads - 1));
    work(pool);
    for (uint32_t left; (left = atomic_load(&pool->pending)) != 0;) {
        if (word_spin(pool, &pool->pending, left)) continue;
        atomic_store(&pool->caller_sleeps, 1);
        if ((left = atomic_load(&pool->pending)) != 0) word_wait(pool, &pool->pending, left);
        atomic_store(&pool->caller_sleeps, 0);
    }
}

struct shifted_task {
    attn_task *fn;
    void *arg;
    size_t first;
};

static void run_shifted(void *argument, size_t index) {
    const struct shifted_task *task = argument;
    task->fn(task->arg, task->first + index);
}

void attn_pool_run(attn_pool *pool, size_t n, attn_task *fn, void *arg) {
    if (n <= 1 || in_task) {
        attn_task_run_alone(fn, arg, n);
    } else if (n <= MAX_JOB) {
        run_part(pool, (uint32_t)n, fn, arg);
    } else {
        struct shifted_task task = {fn, arg, 0};
        for (; task.first < n; task.first += MAX_JOB)
            run_part(pool, (uint32_t)ATTN_MIN(n - task.first, MAX_JOB), run_shifted, &task);
    }
}

/* ---- life -------------------------------------------------------------------------------------- */

static void stop_threads(attn_pool *pool, int started) {
    atomic_store(&pool->stop, true);
    announce(pool, started);
    for (int i = 0; i < started; i++) pthread_join(pool->thread[i], NULL);
}

static void release_pool(attn_context *ctx, attn_pool *pool) {
#if !POOL_FUTEX
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->mutex);
#endif
    attn_release(ctx, pool);
}

attn_status attn_pool_create(attn_pool **gives, attn_context *ctx, int threads) {
    *gives = NULL;
    size_t workers = (size_t)ATTN_MAX(threads, 1) - 1;
    attn_pool *pool = attn_alloc_zero(ctx, 1, sizeof *pool + workers * sizeof pool->thread[0]);
    if (!pool) return ATTN_E_NOMEM;
    pool->threads = (int)workers + 1;
    pool->spin_ns = threads <= attn_processor_count() ? SPIN_NS : 0;
    pool->process = getpid();
    atomic_store(&pool->ticket, CLOSED);
#if !POOL_FUTEX
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->changed, NULL);
#endif
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigset_t all, before; /* the host's signal handlers stay on the host's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = 0, started = 0;
    while (started < (int)workers && !failure) {
        failure = pthread_create(&pool->thread[started], &attributes, worker_main, pool);
        started += !failure;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failure) {
        stop_threads(pool, started);
        release_pool(ctx, pool);
        return attn_fail(ctx, ATTN_E_NOMEM, "thread %d of %d cannot be started (error %d)", started + 2, threads,
                         failure);
    }
    *gives = pool;
    return ATTN_OK;
}

void attn_pool_free(attn_context *ctx, attn_pool *pool) {
    if (!pool) return;
    if (pool->process == getpid()) {
        stop_threads(pool, pool->threads - 1);
        release_pool(ctx, pool);
    } else {
        attn_release(ctx, pool); /* locks that a vanished thread may hold are not destroyed */
    }
}

#if defined(__linux__)
/* The container's quota in processors, rounded up; 0 if there is none (cgroup 2: "200000 100000", or "max 100000"). */
static int quota_processors(void) {
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!file) return 0;
    long quota, period;
    int fields = fscanf(file, "%ld %ld", &quota, &period);
    fclose(file);
    if (fields != 2 || quota <= 0 || period <= 0) return 0;
    return (int)ATTN_MIN((quota + period - 1) / period, 1024);
}
#endif

int attn_processor_count(void) {
    long count = 0;
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
    if (count <= 0) count = sysconf(_SC_NPROCESSORS_ONLN);
    int quota = quota_processors();
    if (quota > 0 && quota < count) count = quota;
#else
    count = sysconf(_SC_NPROCESSORS_ONLN);
#endif
    return (int)ATTN_MAX(count, 1);
}
