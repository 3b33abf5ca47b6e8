/* align_symmetrize.c: one set of links from two directions (Och & Ney 2003; Koehn, Och & Marcu 2003, in Moses' order).
 */
#include "text/align.h"

#include <stdlib.h>
#include <string.h>

enum { IN_FORWARD = 1, IN_REVERSE = 2 };

typedef struct point {
    int32_t source, target;
    uint8_t in; /* the directions that have it */
    bool chosen;
} point;

/* The union of both directions, ordered by target, then source. at_target[j] is the place of (forward[j], j),
 * at_source[i] that of (i, reverse[i]): so a point is found without a matrix. */
typedef struct link_union {
    const int32_t *forward, *reverse;
    size_t targets, sources;
    point *point;
    size_t count;
    size_t *at_target, *at_source;
    bool *target_covered, *source_covered;
} link_union;

static int compare_points(const void *a, const void *b) {
    const point *p = a, *q = b;
    if (p->target != q->target) return p->target < q->target ? -1 : 1;
    return (p->source > q->source) - (p->source < q->source);
}

static int compare_links(const void *a, const void *b) {
    const attn_link *p = a, *q = b;
    if (p->source != q->source) return p->source < q->source ? -1 : 1;
    return (p->target > q->target) - (p->target < q->target);
}

static void collect(link_union *u) {
    for (size_t j = 0; j < u->targets; j++) {
        int32_t i = u->forward[j];
        if (i < 0) continue;
        bool both = u->reverse[i] == (int32_t)j;
        u->point[u->count++] = (point){i, (int32_t)j, (uint8_t)(both ? IN_FORWARD | IN_REVERSE : IN_FORWARD), false};
    }
    for (size_t i = 0; i < u->sources; i++) {
        int32_t j = u->reverse[i];
        if (j >= 0 && u->forward[j] != (int32_t)i) u->point[u->count++] = (point){(int32_t)i, j, IN_REVERSE, false};
    }
    qsort(u->point, u->count, sizeof *u->point, compare_points);
    for (size_t k = 0; k < u->count; k++) {
        if (u->point[k].in & IN_FORWARD) u->at_target[u->point[k].target] = k;
        if (u->point[k].in & IN_REVERSE) u->at_source[u->point[k].source] = k;
    }
}

static point *find_point(const link_union *u, int64_t source, int64_t target) {
    if (source < 0 || target < 0 || (uint64_t)source >= u->sources || (uint64_t)target >= u->targets) return NULL;
    if (u->forward[target] == source) return &u->point[u->at_target[target]];
    if (u->reverse[source] == target) return &u->point[u->at_source[source]];
    return NULL;
}

static void choose(link_union *u, point *p) {
    p->chosen = true;
    u->source_covered[p->source] = u->target_covered[p->target] = true;
}

/* Neighbours in the union that cover a word not yet covered, until there is none. */
static void grow_diagonally(link_union *u) {
    static const int8_t step[8][2] = {{-1, 0},  {0, -1}, {1, 0},  {0, 1},
                                      {-1, -1}, {-1, 1}, {1, -1}, {1, 1}}; /* target, source */
    for (bool added = true; added;) {
        added = false;
        for (size_t k = 0; k < u->count; k++) {
            if (!u->point[k].chosen) continue;
            for (int s = 0; s < 8; s++) {
                point *next =
                    find_point(u, (int64_t)u->point[k].source + step[s][1], (int64_t)u->point[k].target + step[s][0]);
                if (!next || (u->source_covered[next->source] && u->target_covered[next->target])) continue;
                choose(u, next);
                added = true;
            }
        }
    }
}

/* Links of one direction between two words that are both not covered. */
static void finish(link_union *u, int in) {
    for (size_t k = 0; k < u->count; k++) {
        point *p = &u->point[k];
        if (p->in == in && !u->source_covered[p->source] && !u->target_covered[p->target]) choose(u, p);
    }
}

static void select_points(link_union *u, attn_symmetrize how) {
    static const uint8_t wanted[] = {[ATTN_SYM_FORWARD] = IN_FORWARD, [ATTN_SYM_REVERSE] = IN_REVERSE};
    for (size_t k = 0; k < u->count; k++) {
        point *p = &u->point[k];
        if (how == ATTN_SYM_UNION) choose(u, p);
        else if (how == ATTN_SYM_FORWARD || how == ATTN_SYM_REVERSE) p->chosen = (p->in & wanted[how]) != 0;
        else if (p->in == (IN_FORWARD | IN_REVERSE)) choose(u, p);
    }
    if (how < ATTN_SYM_GROW_DIAG) return;
    grow_diagonally(u);
    if (how != ATTN_SYM_GROW_DIAG_FINAL_AND) return;
    finish(u, IN_FORWARD);
    finish(u, IN_REVERSE);
}

attn_status attn_symmetrize_links(attn_context *ctx, attn_links *links, const int32_t *forward, size_t targets,
                                  const int32_t *reverse, size_t sources, attn_symmetrize how) {
    *links = (attn_links){NULL, 0};
    link_union u = {.forward = forward, .reverse = reverse, .targets = targets, .sources = sources};
    u.point = attn_alloc(ctx, sources + targets, sizeof *u.point);
    u.at_target = attn_alloc(ctx, targets, sizeof *u.at_target);
    u.at_source = attn_alloc(ctx, sources, sizeof *u.at_source);
    u.target_covered = attn_alloc_zero(ctx, targets, sizeof(bool));
    u.source_covered = attn_alloc_zero(ctx, sources, sizeof(bool));
    links->link = attn_alloc(ctx, sources + targets, sizeof *links->link);
    bool ready = u.point && u.at_target && u.at_source && u.target_covered && u.source_covered && links->link;
    if (ready) {
        collect(&u);
        select_points(&u, how);
        for (size_t k = 0; k < u.count; k++)
            if (u.point[k].chosen) links->link[links->count++] = (attn_link){u.point[k].source, u.point[k].target};
        qsort(links->link, links->count, sizeof *links->link, compare_links);
    } else {
        attn_release(ctx, links->link);
        links->link = NULL;
    }
    attn_release(ctx, u.point);
    attn_release(ctx, u.at_target);
    attn_release(ctx, u.at_source);
    attn_release(ctx, u.target_covered);
    attn_release(ctx, u.source_covered);
    return ready ? ATTN_OK : ATTN_E_NOMEM;
}
