/* normalisers.h: passes over traced text that several parts share. */
#ifndef ATTN_TEXT_NORMALISERS_H
#define ATTN_TEXT_NORMALISERS_H

#include "text/parts.h"

/* compose: NFC or NFKC, else NFD or NFKD; compatible: NFKC or NFKD. */
attn_status attn_normal_form(attn_work *work, attn_traced *out, const attn_traced *in, bool compatible, bool compose);

#endif
