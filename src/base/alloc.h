/* alloc.h: the allocator of a context that was given none. */
#ifndef ATTN_BASE_ALLOC_H
#define ATTN_BASE_ALLOC_H

#include "base/base.h"

extern const attn_allocator attn_default_allocator; /* aligned_alloc and free */

#endif
