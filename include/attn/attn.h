/* attn/attn.h: everything. */
#ifndef ATTN_ATTN_H
#define ATTN_ATTN_H

#include <attn/base.h>
#include <attn/tensor.h>
#include <attn/ops.h>
#include <attn/attention.h>
#include <attn/cache.h>
#include <attn/chat.h>
#include <attn/weights.h>
#include <attn/nn.h>
#include <attn/text.h>
#include <attn/io.h>
#include <attn/gguf.h>
#include <attn/models.h>
#include <attn/generate.h>
#include <attn/encoder.h>
#include <attn/train.h>
#include <attn/viz.h>

#endif
