/* The context: options, threads, jobs, host pools, floating-point mode, forks. */
#include "support/allocator.h"
#include "base/pool.h"

#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

static const int thread_counts[] = {1, 2, 3, 8};

static attn_context *context_of(int threads) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    attn_context *ctx = NULL;
    assert_ok(attn_context_create(&ctx, &options));
    assert_int_equal(attn_threads(ctx), threads);
    return ctx;
}

/* ---- options ----------------------------------------------------------------------------------- */

static attn_status create_with(const attn_context_options *options) {
    attn_context *ctx = (attn_context *)(uintptr_t)1;
    attn_status status = attn_context_create(&ctx, options);
    if (status != ATTN_OK) assert_null(ctx);
    attn_context_free(ctx);
    return status;
}

static void test_options(void **state) {
    (void)state;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    assert_ok(create_with(&options));
    assert_ok(create_with(NULL));
    assert_int_equal(attn_context_create(NULL, NULL), ATTN_E_ARGUMENT);
    options.struct_size = 1;
    assert_int_equal(create_with(&options), ATTN_E_VERSION);
    options = (attn_context_options)ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = -1;
    assert_int_equal(create_with(&options), ATTN_E_ARGUMENT);
    options.threads = 1000000;
    assert_int_equal(create_with(&options), ATTN_E_ARGUMENT);
    options.threads = 1;
    options.cpu_level = "abacus";
    assert_int_equal(create_with(&options), ATTN_E_UNSUPPORTED);
    options.cpu_level = NULL;
    options.allocator.allocate = test_memory_allocate;
    assert_int_equal(create_with(&options), ATTN_E_ARGUMENT); /* release is missing */
    attn_context_free(NULL);
}

static void test_environment(void **state) {
    (void)state;
    attn_context *ctx;
    setenv("ATTN_NUM_THREADS", "3", 1);
    assert_ok(attn_context_create(&ctx, NULL));
    assert_int_equal(attn_threads(ctx), 3);
    attn_context_free(ctx);
    static const char *const bad[] = {"0", "-2", "three", "3x", "99999999999999999999"};
    for (size_t i = 0; i < ATTN_COUNT(bad); i++) {
        setenv("ATTN_NUM_THREADS", bad[i], 1);
        assert_int_equal(create_with(NULL), ATTN_E_ARGUMENT);
    }
    setenv("ATTN_NUM_THREADS", "", 1); /* as if unset */
    assert_ok(attn_context_create(&ctx, NULL));
    assert_int_equal(attn_threads(ctx), attn_processor_count());
    attn_context_free(ctx);
    unsetenv("ATTN_NUM_THREADS");
    setenv("ATTN_CPU", "abacus", 1);
    assert_int_equal(create_with(NULL), ATTN_E_UNSUPPORTED);
    setenv("ATTN_CPU", "scalar", 1);
    assert_ok(attn_context_create(&ctx, NULL));
    assert_string_equal(attn_cpu_level(ctx), "scalar");
    attn_context_free(ctx);
    unsetenv("ATTN_CPU");
}

static void test_levels(void **state) {
    (void)state;
    const char *const *levels = attn_cpu_levels();
    assert_string_equal(levels[0], "scalar");
    const char *best = NULL;
    for (; *levels; levels++) {
        attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
        options.cpu_level = best = *levels;
        attn_context *ctx;
        assert_ok(attn_context_create(&ctx, &options));
        assert_string_equal(attn_cpu_level(ctx), best);
        attn_context_free(ctx);
    }
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    assert_string_equal(attn_cpu_level(ctx), best);
    attn_context_free(ctx);
}

static void test_no_memory(void **state) {
    (void)state;
    for (long allowed = 0; allowed < 2; allowed++) { /* the context, its pool */
        struct test_memory memory = TEST_MEMORY_INIT;
        memory.fail_after = allowed;
        attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
        options.allocator = (attn_allocator){&memory, test_memory_allocate, test_memory_release};
        options.threads = 4;
        assert_int_equal(create_with(&options), ATTN_E_NOMEM);
        assert_int_equal(memory.alive, 0);
    }
}

/* ---- jobs -------------------------------------------------------------------------------------- */

struct counts {
    _Atomic uint8_t *times;
    attn_context *ctx;
};

static void count_task(void *arg, size_t index) {
    const struct counts *counts = arg;
    atomic_fetch_add(&counts->times[index], 1);
}

static void assert_every_index_once(attn_context *ctx, size_t n) {
    struct counts counts = {calloc(n + 1, 1), ctx};
    assert_non_null(counts.times);
    attn_parallel_for(ctx, n, count_task, &counts);
    for (size_t i = 0; i < n; i++) assert_int_equal(counts.times[i], 1);
    assert_int_equal(counts.times[n], 0);
    free(counts.times);
}

static void test_every_index_once(void **state) {
    (void)state;
    for (size_t i = 0; i < ATTN_COUNT(thread_counts); i++) {
        attn_context *ctx = context_of(thread_counts[i]);
        for (size_t n = 0; n < 70; n++) assert_every_index_once(ctx, n);
        assert_every_index_once(ctx, 100003);
        attn_context_free(ctx);
    }
}

static void sum_task(void *arg, size_t index) {
    _Atomic size_t *sum = arg;
    atomic_fetch_add_explicit(sum, index + 1, memory_order_relaxed);
}

/* Many short jobs, with pauses that let the threads fall asleep between some of them. */
static void test_many_jobs(void **state) {
    (void)state;
    for (size_t i = 0; i < ATTN_COUNT(thread_counts); i++) {
        attn_context *ctx = context_of(thread_counts[i]);
        for (size_t job = 0; job < 20000; job++) {
            _Atomic size_t sum = 0;
            size_t n = 1 + job % 17;
            attn_parallel_for(ctx, n, sum_task, &sum);
            if (sum != n * (n + 1) / 2) fail_msg("job %zu: %zu", job, (size_t)sum);
            if (job % 1000 == 0) usleep(1000);
        }
        attn_context_free(ctx);
    }
}

struct meeting {
    _Atomic int arrived;
    int wanted;
};

/* Returns only when all the threads are inside: so they really are that many. */
static void meet_task(void *arg, size_t index) {
    (void)index;
    struct meeting *meeting = arg;
    atomic_fetch_add(&meeting->arrived, 1);
    for (int i = 0; atomic_load(&meeting->arrived) < meeting->wanted && i < 20000; i++) usleep(500);
}

static void test_threads_work_at_once(void **state) {
    (void)state;
    for (size_t i = 0; i < ATTN_COUNT(thread_counts); i++) {
        attn_context *ctx = context_of(thread_counts[i]);
        struct meeting meeting = {0, thread_counts[i]};
        attn_parallel_for(ctx, (size_t)thread_counts[i], meet_task, &meeting);
        assert_int_equal(meeting.arrived, thread_counts[i]);
        attn_context_free(ctx);
    }
}

static void nest_task(void *arg, size_t index) {
    const struct counts *counts = arg;
    struct counts inner = {counts->times + index * 10, counts->ctx};
    attn_parallel_for(counts->ctx, 10, count_task, &inner);
}

static void test_nested(void **state) {
    (void)state;
    for (size_t i = 0; i < ATTN_COUNT(thread_counts); i++) {
        attn_context *ctx = context_of(thread_counts[i]);
        for (size_t n = 1; n < 40; n += 6) {
            _Atomic uint8_t times[400] = {0};
            struct counts counts = {times, ctx};
            attn_parallel_for(ctx, n, nest_task, &counts);
            for (size_t k = 0; k < 400; k++) assert_int_equal(times[k], k < 10 * n);
        }
        assert_false(attn_in_task());
        attn_context_free(ctx);
    }
}

/* A job of one piece leaves the threads to the jobs inside it. */
static void meet_inside_task(void *arg, size_t index) {
    (void)index;
    attn_context *ctx = arg;
    struct meeting meeting = {0, 3};
    attn_parallel_for(ctx, 3, meet_task, &meeting);
    assert_int_equal(meeting.arrived, 3);
}

static void test_single_piece(void **state) {
    (void)state;
    attn_context *ctx = context_of(3);
    attn_parallel_for(ctx, 1, meet_inside_task, ctx);
    attn_context_free(ctx);
}

/* ---- a host's pool ----------------------------------------------------------------------------- */

struct host {
    attn_task *fn;
    void *arg;
    size_t n, calls;
};

static void *host_thread(void *argument) {
    struct host *host = argument;
    for (size_t i = 1; i < host->n; i += 2) host->fn(host->arg, i);
    return NULL;
}

/* Odd indices on another thread, even ones here, backwards. */
static void host_parallel_for(void *user, size_t n, attn_task *fn, void *arg) {
    struct host *host = user;
    *host = (struct host){fn, arg, n, host->calls + 1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, host_thread, host), 0);
    for (size_t i = (n + 1) / 2 * 2; i >= 2; i -= 2) fn(arg, i - 2);
    pthread_join(thread, NULL);
}

static void test_host_pool(void **state) {
    (void)state;
    struct host host = {0};
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = 2;
    options.parallel_for = host_parallel_for;
    options.parallel_user = &host;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, &options));
    assert_null(ctx->pool);
    for (size_t n = 2; n < 20; n++) assert_every_index_once(ctx, n);
    assert_int_equal(host.calls, 18);
    _Atomic uint8_t times[400] = {0};
    struct counts counts = {times, ctx};
    attn_parallel_for(ctx, 40, nest_task, &counts);
    assert_int_equal(host.calls, 19); /* nested jobs do not come back to the host */
    for (size_t k = 0; k < 400; k++) assert_int_equal(times[k], 1);
    attn_context_free(ctx);
}

/* ---- subnormal numbers ------------------------------------------------------------------------- */

struct subnormals {
    volatile float tiny;  /* the smallest normal number */
    _Atomic int not_zero; /* tasks in which tiny / 2 was not zero */
};

static void subnormal_task(void *arg, size_t index) {
    (void)index;
    struct subnormals *numbers = arg;
    volatile float half = numbers->tiny / 2;
    if (half != 0) atomic_fetch_add(&numbers->not_zero, 1);
}

static void test_subnormals(void **state) {
    (void)state;
#if defined(__x86_64__) || defined(__aarch64__)
    struct host host = {0};
    for (size_t i = 0; i <= ATTN_COUNT(thread_counts); i++) {
        attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
        bool own = i < ATTN_COUNT(thread_counts);
        options.threads = own ? thread_counts[i] : 2;
        if (!own) options.parallel_for = host_parallel_for, options.parallel_user = &host;
        attn_context *ctx;
        assert_ok(attn_context_create(&ctx, &options));
        struct subnormals numbers = {0x1p-126f, 0};
        for (size_t n = 1; n < 50; n += 7) attn_parallel_for(ctx, n, subnormal_task, &numbers);
        assert_int_equal(numbers.not_zero, 0);
        subnormal_task(&numbers, 0); /* the caller's own mode is back */
        assert_int_equal(numbers.not_zero, 1);
        attn_context_free(ctx);
    }
#else
    skip();
#endif
}

static void test_rounding_mode_stays(void **state) {
    (void)state;
    attn_context *ctx = context_of(2);
    fesetround(FE_UPWARD);
    struct subnormals numbers = {0x1p-126f, 0};
    attn_parallel_for(ctx, 9, subnormal_task, &numbers);
    assert_int_equal(fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
    attn_context_free(ctx);
}

/* ---- forks ------------------------------------------------------------------------------------- */

/* A forked child has the context but none of its threads; its jobs still end, and so does attn_context_free. */
static void test_fork(void **state) {
    (void)state;
    attn_context *ctx = context_of(3);
    assert_every_index_once(ctx, 100);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(20);
        _Atomic size_t sum = 0;
        attn_parallel_for(ctx, 1000, sum_task, &sum);
        attn_context_free(ctx);
        _exit(sum == 500500 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_every_index_once(ctx, 100);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_every_index_once),
        cmocka_unit_test(test_many_jobs),
        cmocka_unit_test(test_threads_work_at_once),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_single_piece),
        cmocka_unit_test(test_host_pool),
        cmocka_unit_test(test_subnormals),
        cmocka_unit_test(test_rounding_mode_stays),
        cmocka_unit_test(test_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
