/* safetensors.c: a file of weights. Whatever it holds: refused, or every byte of every tensor is there, within 4 × its
 * size + 1 MB. */
#include "fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    attn_context *ctx = fuzz_begin(4 * size + (1 << 20));
    attn_safetensors *file;
    if (attn_safetensors_open(&file, ctx, fuzz_file("x.safetensors", data, size)) != ATTN_OK) {
        FUZZ_CHECK(!file && attn_error(ctx)[0]);
        return fuzz_end();
    }
    size_t total = 0;
    for (size_t i = 0; i < attn_safetensors_count(file); i++) {
        const attn_named_tensor *named = attn_safetensors_at(file, i);
        size_t bytes = attn_tensor_count(&named->tensor) * attn_dtype_size(named->tensor.dtype);
        fuzz_touch(named->tensor.data, bytes);
        fuzz_touch(named->name, strlen(named->name));
        FUZZ_CHECK(attn_safetensors_find(file, named->name) == named);
        FUZZ_CHECK((uintptr_t)named->tensor.data % attn_dtype_size(named->tensor.dtype) == 0);
        total += bytes;
    }
    FUZZ_CHECK(total < size);
    FUZZ_CHECK(!attn_safetensors_find(file, "no such tensor, certainly"));
    const char *format = attn_safetensors_metadata(file, "format");
    if (format) fuzz_touch(format, strlen(format));
    attn_safetensors_close(file);
    return fuzz_end();
}
